package jobs

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// queueWait is how long it is waited at an empty queue at a time. It bounds nothing else: what comes ends it.
const queueWait = time.Second

// queueLook is asynq's pause after an empty answer: between two waits, and while a queue is paused.
const queueLook = 10 * time.Millisecond

// awaiting is the client of an asynq server that has one queue. asynq asks for a task again and again, and what comes waits
// for the next time. Here the answer waits until there is one: moving the last task of the queue to where it is changes nothing, and
// Redis holds the command back while there is none. Where Redis cannot do that, asynq goes on asking.
type awaiting struct {
	redis.UniversalClient
	pending string // the key of its list
	stop    <-chan struct{}
}

func awaitQueue(client redis.UniversalClient, queue string, stop <-chan struct{}) awaiting {
	return awaiting{client, "asynq:{" + queue + "}:pending", stop}
}

// EvalSha runs a script of asynq's. That which takes a task names the list first, and answers nothing if the queue is empty or paused.
func (c awaiting) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	answer := c.UniversalClient.EvalSha(ctx, sha, keys, args...)
	if len(keys) == 0 || keys[0] != c.pending || !errors.Is(answer.Err(), redis.Nil) {
		return answer
	}
	came := make(chan bool, 1)
	go func() {
		came <- c.BLMove(ctx, c.pending, c.pending, "RIGHT", "RIGHT", queueWait).Err() == nil
	}()
	select {
	case <-c.stop: // the command ends by itself, or with the client
		return answer
	case something := <-came:
		if !something {
			return answer
		}
	}
	return c.UniversalClient.EvalSha(ctx, sha, keys, args...)
}
