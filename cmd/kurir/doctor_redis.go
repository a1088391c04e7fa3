package main

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

func (d *doctor) redis(ctx context.Context) {
	const check = "redis"
	if d.cfg.RedisURL == "" {
		return
	}
	client, err := openRedis(d.cfg.RedisURL)
	if err != nil {
		d.say(check, failing, "Write it so.", "%v", err)
		return
	}
	defer func() { _ = client.Close() }()
	var wrong error
	err = within(ctx, func(ctx context.Context) error {
		if wrong = misdirected(ctx, client); wrong != nil {
			return nil
		}
		if err := client.Ping(ctx).Err(); err != nil {
			return err
		}
		return eachRedis(ctx, client, d.redisNode)
	})
	switch {
	case wrong != nil:
		d.say(check, failing, "Correct REDIS_URL; docs/databases.md has its forms.", "%v", wrong)
	case err != nil:
		d.say(check, failing, "Start Redis, and see that REDIS_URL and its password are right. Until then messages are accepted, and go out slowly.", "Redis does not answer: %v", err)
	}
}

// eachRedis looks at the one Redis, or at each master of a cluster in turn. at is where such a master is.
func eachRedis(ctx context.Context, client redis.UniversalClient, look func(ctx context.Context, at string, node redis.UniversalClient) error) error {
	cluster, several := client.(*redis.ClusterClient)
	if !several {
		return look(ctx, "", client)
	}
	var turn sync.Mutex
	return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		turn.Lock()
		defer turn.Unlock()
		return look(ctx, " at "+node.Options().Addr, node)
	})
}

func (d *doctor) redisNode(ctx context.Context, at string, node redis.UniversalClient) error {
	const check = "redis"
	asked := time.Now()
	there, err := node.Time(ctx).Result()
	if err != nil {
		return err
	}
	d.clock("Redis"+at, there, asked)
	info, err := infoOf(ctx, node)
	if err != nil {
		return err
	}
	if v := info["redis_version"]; v != "" && older(v, oldestRedis) {
		d.say(check, failing, "Upgrade Redis to "+oldestRedis+" or later.", "Redis %s%s is too old", v, at)
	} else {
		d.say(check, fine, "", "Redis %s%s answers", v, at)
	}
	if at != "" {
		d.clusterState(ctx, at, node)
	}
	if policy := info["maxmemory_policy"]; policy != "" && policy != "noeviction" {
		d.say(check, failing, "Set maxmemory-policy noeviction: what it would drop is a queue.", "maxmemory-policy%s is %s", at, policy)
	} else if policy != "" {
		d.say(check, fine, "", "it drops nothing when it is full (noeviction)")
	}
	_ = d.persistence(ctx, node, info["aof_enabled"]) // some let nobody read their settings
	return nil
}

// clusterState looks whether all slots have a node: our keys are spread over all of them.
func (d *doctor) clusterState(ctx context.Context, at string, node redis.UniversalClient) {
	text, err := node.ClusterInfo(ctx).Result()
	if err == nil && !strings.Contains(text, "cluster_state:ok") {
		d.say("redis", failing, "See that each slot has a master, and each master a replica: redis-cli --cluster check.", "Redis%s says that the cluster is down", at)
	}
}

// persistence looks at what Redis comes back with after a restart.
func (d *doctor) persistence(ctx context.Context, client redis.UniversalClient, appends string) error {
	set := map[string]string{}
	for _, name := range []string{"appendfsync", "save"} {
		values, err := client.ConfigGet(ctx, name).Result()
		if err != nil {
			return err
		}
		set[name] = values[name]
	}
	if found, older := comesBackWith(appends, set["appendfsync"], set["save"]); older {
		d.say("redis", warning, `Set appendfsync always, or keep nothing: appendonly no and save "".`, "%s", found)
	} else if found != "" {
		d.say("redis", fine, "", "%s", found)
	}
	return nil
}

// comesBackWith judges what Redis keeps: aof_enabled of INFO, and its settings. All or nothing is well: nothing is filled again
// from PostgreSQL, but an older state is believed.
func comesBackWith(appends, fsync, save string) (found string, older bool) {
	switch {
	case appends == "1" && fsync == "always":
		return "it comes back as it was after a restart (appendfsync always)", false
	case appends == "1":
		return "after a crash it comes back without its last second: limits let in again what they had counted in it (appendfsync " + fsync + ")", true
	case appends == "0" && save != "":
		return "after a crash it comes back with its last snapshot: limits let in again what they had counted since (save " + save + ")", true
	case appends == "0":
		return "it keeps nothing over a restart: queues and counts are filled again from PostgreSQL within seconds", false
	}
	return "", false
}

// infoOf reads what INFO says; not every Redis says everything.
func infoOf(ctx context.Context, client redis.UniversalClient) (map[string]string, error) {
	text, err := client.Info(ctx).Result()
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info, err
}
