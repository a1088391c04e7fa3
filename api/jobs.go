package api

import (
	"context"
	"strings"
	"time"

	"kurir/fault"
	"kurir/jobs"
	"kurir/models"
)

// JobResource is a piece of work that a call started.
type JobResource struct {
	ID         string     `json:"id" format:"uuid"`
	Type       string     `json:"type" example:"session:create"`
	Status     string     `json:"status" enum:"queued,running,succeeded,failed,cancelled"`
	Attempts   int        `json:"attempts"`
	Error      *string    `json:"error" doc:"Why the last attempt failed, for people"`
	Progress   any        `json:"progress" doc:"Where the work stands, for kinds that tell; null before they begin"`
	Result     any        `json:"result"`
	CreatedAt  time.Time  `json:"createdAt"`
	StartedAt  *time.Time `json:"startedAt"`
	FinishedAt *time.Time `json:"finishedAt"`
	Subject    JobSubject `json:"subject" doc:"What it works on"`
}

// JobSubject is what a job works on.
type JobSubject struct {
	SessionID *string `json:"sessionId,omitempty"`
	MessageID *string `json:"messageId,omitempty"`
	WorkerID  *string `json:"workerId,omitempty" doc:"The worker that is emptied"`
}

func jobResource(j *models.Job, session *string) JobResource {
	r := JobResource{ID: j.ID.String(), Type: j.Kind, Status: strings.ToLower(j.Status), Attempts: j.Attempts, Error: j.Error,
		CreatedAt: j.CreatedAt.UTC(), StartedAt: utc(j.StartedAt), FinishedAt: utc(j.FinishedAt), Subject: JobSubject{SessionID: session}}
	if j.Progress != nil {
		r.Progress = j.Progress
	}
	if j.Result != nil {
		r.Result = j.Result
	}
	if j.Kind == jobs.KindDrainWorker {
		r.Subject.WorkerID = j.WorkerID
	}
	return r
}

// JobPath names a job.
type JobPath struct {
	JobID string `path:"jobId" maxLength:"64" format:"uuid" doc:"The job's ID, or a message's"`
}

// adminKinds are kinds of jobs that administrators share: who asks for what is under way already is given the job of
// who asked first; an account's end has no other reader; and replays are asked for by operators too.
var adminKinds = []string{jobs.KindDrainWorker, jobs.KindMigrateSession, jobs.KindRebalance, models.KindCloseAccount, models.KindReplay}

var errNoJob = fault.New(fault.NotFound, "job_not_found", "There is no such job.")

func (a *API) getJob(ctx context.Context, in *JobPath) (*Reply[JobResource], error) {
	id, err := idOf(in.JobID, errNoJob)
	if err != nil {
		return nil, err
	}
	p := callerOf(ctx)
	j, err := models.JobOf(ctx, a.db, p.user.ID, p.session, id)
	ok, err := models.Found(err)
	if err == nil && !ok && p.may(accessAdmin) == nil {
		j, err = models.JobOfKind(ctx, a.db, id, adminKinds...)
		ok, err = models.Found(err)
	}
	switch {
	case err != nil:
		return nil, databaseFault(err)
	case ok:
		resource, err := a.withSubject(ctx, j)
		return reply(resource), err
	}
	m, s, err := models.MessageOf(ctx, a.db, p.user.ID, p.session, id)
	if err := found(err, errNoJob); err != nil {
		return nil, err
	}
	if m.Direction != models.Outbound || m.FromMe { // nobody asked us to send it
		return nil, errNoJob
	}
	return reply(jobOfMessage(m, s)), nil
}

func (a *API) withSubject(ctx context.Context, j *models.Job) (JobResource, error) {
	if j.SessionUID == nil {
		return jobResource(j, nil), nil
	}
	s, err := models.SessionByUID(ctx, a.db, *j.SessionUID)
	if ok, err := models.Found(err); err != nil {
		return JobResource{}, databaseFault(err)
	} else if !ok {
		return jobResource(j, nil), nil
	}
	return jobResource(j, &s.ID), nil
}

// JobList is a page of jobs.
type JobList struct {
	Jobs       []JobResource `json:"jobs"`
	NextCursor *string       `json:"nextCursor"`
}

func (a *API) listJobs(ctx context.Context, in *Page) (*Reply[JobList], error) {
	before, err := in.after()
	if err != nil {
		return nil, err
	}
	rows, err := models.JobsOf(ctx, a.db, callerOf(ctx).user.ID, before, in.Limit+1)
	if err != nil {
		return nil, databaseFault(err)
	}
	page := first(rows, in.Limit)
	list := JobList{Jobs: make([]JobResource, 0, len(page))}
	for i := range page {
		r, err := a.withSubject(ctx, &page[i])
		if err != nil {
			return nil, err
		}
		list.Jobs = append(list.Jobs, r)
	}
	if len(page) > 0 {
		list.NextCursor = in.next(len(rows), page[len(page)-1].ID)
	}
	return reply(list), nil
}
