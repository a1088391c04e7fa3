package api

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"
)

// openAPI configures huma: no schema links in answers, no page of its own that would load from elsewhere.
func (a *API) openAPI() huma.Config {
	c := huma.DefaultConfig("Kurir", a.cfg.Version)
	c.CreateHooks, c.Transformers, c.DocsPath, c.SchemasPath, c.OpenAPIPath = nil, nil, "", "", ""
	c.Formats = map[string]huma.Format{"application/json": huma.DefaultJSONFormat}
	c.Info.Description = introduction
	c.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	if a.cfg.PublicURL != "" {
		c.Servers = []*huma.Server{{URL: strings.TrimSuffix(a.cfg.PublicURL, "/")}}
	}
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token":       {Type: "http", Scheme: "bearer", BearerFormat: "JWT", Description: "The token of a login. API keys may be sent this way too."},
		"apiKey":      {Type: "apiKey", In: "header", Name: "X-Api-Key", Description: "An account's key (kur_…) or a session's (kus_…). The scopes of an operation (send, read, manage) are asked of account keys."},
		queryKey:      {Type: "apiKey", In: "query", Name: "apiKey", Description: "The same key in the address of a GET, for what can send no headers. Addresses are logged by proxies and kept by browsers: use a header where you can. An installation with ALLOW_QUERY_API_KEY=false does not take it."},
		"ticket":      {Type: "apiKey", In: "query", Name: "ticket", Description: "For one event stream, from POST …/events/ticket: browsers' EventSource sends no headers."},
		"workerToken": {Type: "http", Scheme: "bearer", Description: "WORKER_AUTH_TOKEN, for worker nodes; X-Worker-Token works too."},
	}
	c.Tags = []*huma.Tag{{Name: "Accounts"}, {Name: "Sessions", Description: "A session is one linked WhatsApp number."}, {Name: "Messages"},
		{Name: "Media", Description: "Pictures, videos, voice notes, documents and stickers."},
		{Name: "Contacts and groups", Description: "What WhatsApp is asked at once, through the session's worker."},
		{Name: "Webhooks", Description: "Signed as Standard Webhooks say."}, {Name: "Events", Description: "Streams of text/event-stream."},
		{Name: "Jobs"}, {Name: "Administration"}, {Name: "Worker protocol"}}
	return c
}

// queryKey is the scheme of API keys in addresses.
const queryKey = "apiKeyInAddress"

// inAddress tells that a GET which takes API keys takes them in its address too.
func inAddress(o *huma.Operation) {
	for _, alternative := range o.Security {
		if scopes, ok := alternative["apiKey"]; ok && o.Method == http.MethodGet {
			o.Security = append(slices.Clone(o.Security), map[string][]string{queryKey: scopes})
			return
		}
	}
}

// serveOpenAPI serves the document, which is complete now. It is written at the first request, since that takes longer than all
// the rest of New, and once: huma's own route would do so without a lock.
func (a *API) serveOpenAPI() {
	document := sync.OnceValue(a.document)
	a.app.Get("/openapi.json", func(c *fiber.Ctx) error {
		c.Set("Content-Type", "application/openapi+json")
		return c.Send(document())
	})
}

const introduction = `Kurir sends and receives WhatsApp messages for its tenants.

Answers are ` + "`{\"success\": true, \"data\": {…}}`" + ` or ` + "`{\"success\": false, \"error\": \"sentence\", \"code\": \"snake_case\", \"requestId\": \"…\"}`" + `.

1. *Register* an account, and keep its token and API key.
2. *Create a session*, scan its QR code with the phone, and wait until it is ` + "`connected`" + `.
3. *Send a message*. It is stored durably before you get 202, and goes out in order, once. ` + "`Prefer: wait=10`" + ` waits until it is sent.
4. *Set a webhook* to hear of receipts and of messages that come in.

` + "`/api/…`" + ` is an alias of ` + "`/api/v1/…`" + `.`

func tag(need access, path string) string {
	if t, ok := tagOf[need]; ok {
		return t
	}
	switch {
	case strings.HasPrefix(path, "/auth"), strings.HasPrefix(path, "/users"), strings.HasPrefix(path, "/api-keys"):
		return "Accounts"
	case strings.Contains(path, "/events"):
		return "Events"
	case strings.Contains(path, "webhook"):
		return "Webhooks"
	case strings.Contains(path, "/media"):
		return "Media"
	case strings.Contains(path, "messages"), strings.HasSuffix(path, "/send"):
		return "Messages"
	case strings.Contains(path, "/contacts"), strings.Contains(path, "/groups"), strings.Contains(path, "/presence"), strings.Contains(path, "/labels"), strings.HasSuffix(path, "/read"):
		return "Contacts and groups"
	case strings.HasPrefix(path, "/jobs"):
		return "Jobs"
	}
	return "Sessions"
}

// maybeDone reports whether an operation that starts work may answer with its end: if the client waits, or asks for it.
func maybeDone[I, O any]() bool {
	_, starts := reflect.TypeFor[O]().FieldByName("PreferenceApplied")
	_, waits := reflect.TypeFor[I]().FieldByName("Prefer")
	_, forces := reflect.TypeFor[I]().FieldByName("Force")
	return starts && (waits || forces)
}

// answersAtOnce documents that an operation answers 200 as well as 202.
func answersAtOnce(api *huma.OpenAPI, o huma.Operation) {
	item := api.Paths[o.Path]
	for _, registered := range []*huma.Operation{item.Post, item.Delete} {
		if registered == nil || registered.OperationID != o.OperationID {
			continue
		}
		done := *registered.Responses["202"]
		done.Description = "It is done"
		registered.Responses["200"] = &done
	}
}

// describe is the longer text of an operation.
func describe(id string) string { return descriptions[id] }

var descriptions = map[string]string{
	"register":           "Answers a token and the account's API key. The key is shown this once.",
	"login":              "Answers a token, which lasts as long as JWT_EXPIRES_IN says.",
	"logout":             "Every token of the account, on every device, stops working. API keys go on.",
	"me":                 "The account that the token or the key belongs to.",
	"list-sessions":      "Newest first. `nextCursor` leads to the next page.",
	"get-session":        "`desired` says what should be, `status` and `reason` what is.",
	"update-session":     "Changes what is given: the name that people see, `metadata`, and `settings`, which are merged into what is there (null resets), and the `proxy`, with which the session connects anew. The session's ID stays.",
	"rotate-session-key": "The former key stops working at once. The new one is shown this once. It sends and reads, so an API key needs the scopes `send` and `read` too.",
	"start-session":      "Places the session on a worker and connects it. One that is linked needs no new QR code; one that was logged out, or whose QR code nobody scanned, shows one. A session that runs is left as it is.",
	"stop-session":       "Disconnects and keeps the credentials: a start needs no new QR code. Messages that wait go on waiting, new ones are refused. It counts for your tier still.",
	"restart-session":    "Gives up the present connection, after the sends in hand, and opens a new one on the same worker. One that is stopped is started.",
	"logout-session":     "Cancels what waits to be sent and unlinks the device. `result.unlinked` of the job is false if the phone could not be told: then remove the device there. A start shows a new QR code.",
	"get-webhook":        "Without the secret and the values of headers, which are not shown again.",
	"delete-webhook":     "Its deliveries go with it, those that wait too.",
	"get-delivery":       "`attemptLog` tells of each attempt what the subscriber answered.",
	"list-jobs":          "What your calls started, newest first. Messages are not in this list: see a session's history.",
	"list-workers":       "All worker nodes with their load.",
	"get-worker":         "One worker node with its load.",
	"announce-worker":    "For workers elsewhere: it is listed, as offline, before its process starts and registers under this `workerId`. `reachable` and `problem` say whether a worker answers at the endpoint already. A removed worker may be announced again.",
	"update-worker":      "`maintenance` keeps its sessions where they are and gives it no new ones. `maxSessions` is a bound of yours beside what the worker offers.",
	"remove-worker":      "Answers 202: it gets no new sessions, the job moves those that it has, and then removes it. With `force=true` it is removed at once, and the answer is 200: its sessions are given to others when its lease is over, some seconds later. A removed worker comes back when its process is started anew, or is announced.",
	"drain-worker":       "Puts it into maintenance and moves its sessions to others, a few at a time. Asked for again while that is under way, the answer is the same job. `PATCH` with `status: online` ends it.",
	"broadcast":          "Tells all workers that are alive, or those that you name, side by side, at most 5 seconds each. A worker that fails stands in `results`; the request succeeds all the same.",
	"worker-metrics":     "CPU, memory, sessions and messages of each worker, averaged over steps.",
	"rebalance":          "Has sessions move away from workers above 80 % CPU, 90 % memory or 90 % of their room, at most 5 from each, to workers that stay well below. A session that moved within 10 minutes stays. It runs by itself each minute too.",
	"migrate-session":    "Reserves room, has the present worker let go of the session, and the other one take it up. Nothing is scanned again, and messages wait meanwhile. If nobody has room when it comes to it, the session stays where it is.",
	"get-scaling":        "Sessions, CPU and memory decide. A recommendation changes when the figures ask for more for a minute, or for fewer for 10 minutes.",
	"create-session":     "Reserves room on a worker and starts linking. The session's API key is shown this once, and not to an API key that lacks `send` or `read`. With `Prefer: wait=N` the answer comes when there is a QR code.",
	"delete-session":     "The session is gone at once: its messages that wait are cancelled, its key and its webhook end. The job unlinks the phone. The sessionId may be used again, by you, when the job has ended.",
	"get-session-status": "Asks the worker. Where that does not answer within 3 seconds, the last known status is answered, with `source: database`.",
	"get-session-qr":     "As JSON with a data URL, or as a picture with `Accept: image/png`. It changes every 20 seconds until it is scanned.",
	"send":               "Answers 202 when the message is stored durably. It is sent when its turn comes: messages of one chat go out in order. With `Prefer: wait=N` the answer is 200 with the final status, if that is there in time.",
	"send-message":       "The same as `/send`.",
	"send-by-key":        "Sends from the session whose API key the request carries.",
	"list-messages":      "Messages in and out, newest first. `q` searches in their text. Each page looks through a bounded number of messages: with a filter that few pass, a page may be short or even empty while `nextCursor` leads on.",
	"export-messages":    "The whole history as NDJSON, newest first: a message a line, as `GET /messages/{messageId}` answers it. The last line is `{\"end\":true,\"messages\":n}`; if it says `false`, or is missing, not all is there: `nextCursor` of the last line goes on. If the line is missing, repeat the export with `until` a moment after the last message that came, and pass over what you have. Two at once for an account.",
	"get-message":        "`status` rises from pending over sending and sent to delivered and read, or ends as failed, expired, cancelled or unknown. `waitingFor` says why a pending one waits.",
	"cancel-message":     "Only a message that was never tried can be cancelled.",
	"send-batch":         "Up to 1,000 messages, in order, all or none: a message that is wrong refuses all of them, and `details` name it as `messages[3].to`. Each counts as one. Up to 8 MB.",
	"cancel-messages":    "Cancels what waits and fits: an empty object is all that waits. What is on its way stays. Each that is cancelled has its event.",
	"retry-message":      "A message that failed, expired or was cancelled waits again, at the end of its chat, under the same ID. With `force`, also one whose outcome is unknown: its person could get it twice.",
	"edit-message":       "Sends an edit, as a message of its own, within 15 minutes after the message was sent. A message that still waits is changed where it is, and the answer is 200.",
	"revoke-message":     "Has it deleted for everyone, within 60 hours after it was sent, by a message of its own. A message that still waits is cancelled, and the answer is 200.",
	"react":              "Sends a reaction, as a message of its own. An empty `emoji` takes it back.",
	"forward-message":    "Sends a copy of it, marked as forwarded.",
	"upload-media":       "The file as the body, or as the part `file` of a form. It is then sent by its `mediaId`, as often as you like. What no message refers to is dropped a day after it was uploaded or sent last.",
	"get-media":          "The content, as a file to save. A session's key opens the media of that session's messages. `Range` asks for a part, which is answered with 206.",
	"put-webhook":        "Makes or replaces the session's webhook. A new secret is shown this once; leave `secret` out to keep the one that is there, and `headers`, as long as `url` leads to the same host. Another one replaces it as rotating does. What waited while it was switched off goes out when it is switched on; `waiting` and `waitingSince` tell what that is.",
	"list-deliveries":    "Newest first, by `sequence`, which counts without gaps.",
	"account-events":     "`text/event-stream`: one event per thing that happens in any of your sessions, in the order in which it became final. `Last-Event-ID` resumes without loss; if that event is not kept any more, the first event is `reset`. A comment comes every 15 seconds. A client that reads too slowly is cut off, and resumes.",
	"session-events":     "`text/event-stream`: as `/events`, for one session. QR codes come as `session.qr`.",
	"account-ticket":     "For `GET /events?ticket=…` or a session's events, once, within 60 seconds. What ends the credential that made it ends the stream too.",
	"session-ticket":     "For `GET /sessions/{id}/events?ticket=…`, once, within 60 seconds. What ends the credential that made it ends the stream too.",
	"create-link":        "For somebody else to scan: a page that shows the live QR code, in plain words, until a phone is linked or the time is up. Whoever has the address sees the code, and nothing else of yours. A session has one such page; another one ends the former.",
	"delete-link":        "The page shows nothing any more, open ones within 5 seconds.",
	"get-job":            "A message is its own job: its ID works here too.",
	"register-worker":    "Starts a new term of the worker and answers the secret that both sides show from then on.",
	"worker-heartbeat":   "Renews the lease. The duration counts from when the worker sent the request.",
	"worker-put-media":   "A medium of a message that came in, as the body. It is handed over before the message is reported, which names it by its `mediaId`.",
	"worker-get-media":   "The content of a medium of the session's owner.",
	"worker-events":      "One batch at a time, with consecutive `seq`. The answer's `next` acknowledges everything below it.",

	"list-users":          "Newest first, in numbered pages. `search` finds whole words and beginnings of words in name and mail address.",
	"create-user":         "For installations that do not open accounts by themselves. No API key is made: its owner makes his own. A password of ours is shown this once.",
	"get-user":            "With the limits that hold for him.",
	"update-user":         "What is left out stays. A user who is deactivated is locked out at once, and his sessions stop; activated again, those that ran then run again. The last active administrator stays one.",
	"delete-user":         "He is locked out at once, and everything of his is removed bit by bit. The audit trail keeps his ID. The last active administrator stays.",
	"reset-user-password": "Ends all his tokens. His API keys go on.",
	"pause-user":          "Nothing of any of his sessions is sent, but for what is on its way at this moment. Messages are accepted, and wait: `waitingFor` says `paused_by_administrator`.",
	"resume-user":         "What waited goes out in its order, unless its session or everything is paused too.",
	"list-all-sessions":   "Newest first, with their owners.",
	"pause-session":       "Nothing of it is sent, but for what is on its way at this moment, until an administrator resumes it. Messages are accepted, and wait.",
	"resume-session":      "What waited goes out in its order. A pause by its owner, of his account or of everything is another one, and stays.",
	"pause-platform":      "Nothing of anybody is sent, but for what is on its way at this moment. Messages are accepted, and wait.",
	"resume-platform":     "What waited goes out, but for sessions and users that are paused themselves.",
	"get-settings":        "Every variable of the environment, as it holds. Of secrets it only says whether they are set.",
	"list-logs":           "Who did what to what, from where: every change by a user, administrator, worker or job, newest first. It holds IDs, and no names, mail addresses, numbers, messages or secrets.",
	"list-own-logs":       "What you did, and what administrators and we did with your account, newest first. Failed attempts to log in are there too.",

	"rotate-webhook-secret":         rotateDescription,
	"rotate-account-webhook-secret": rotateDescription,
	"test-webhook":                  testDescription,
	"test-account-webhook":          testDescription,
	"replay-webhook":                replayDescription,
	"replay-account-webhook":        replayDescription,
	"replay-delivery":               "Sends it again, under the same `webhook-id` and `sequence`, with a new timestamp and the whole schedule ahead of it. One that is under way anyway is due at once. With `Prefer: wait=N` the answer is 200 when it was tried.",
	"put-account-webhook":           "Like a session's webhook, and beside it: it hears of all sessions of the account, those to come too. A new secret is shown this once.",
	"get-account-webhook":           "Without the secret and the values of headers, which are not shown again.",
	"delete-account-webhook":        "Its deliveries go with it, those that wait too.",
	"list-account-deliveries":       "Newest first, by `sequence`, which counts without gaps.",
	"get-pairing-code":              "For phones that cannot scan: the code is entered there under *Linked devices*, *Link with phone number*. The session has to show a QR code at this moment. Asking for another code ends the one before, and may change the QR code.",
	"check-contacts":                "Up to 100 numbers, answered in their order. WhatsApp watches how many a number asks for.",
	"list-contacts":                 "Those that the session's phone knows, by address.",
	"get-contact":                   "What the session's phone knows of somebody: what it does not know is null.",
	"get-contact-picture":           "Answers WhatsApp's own URL, which ends to be good after some hours. Nothing is fetched here.",
	"list-groups":                   "Groups that the session is in, by address, without their participants.",
	"create-group":                  "`results` tells of each participant whether he is in it: some have to be invited by link. After 504 `outcome_unknown` look into the list of groups before you ask again, or repeat with the same `Idempotency-Key`.",
	"join-group":                    "Takes the invitation or its code. The link is not opened.",
	"get-group":                     "With its participants.",
	"add-participants":              "Answers for each whether it was done. Needs an administrator of the group.",
	"remove-participants":           "Answers for each whether it was done. Needs an administrator of the group.",
	"set-participant-roles":         "`admin` makes administrators, `member` takes that back. Answers for each whether it was done.",
	"get-group-invite":              "Needs an administrator of the group.",
	"revoke-group-invite":           "Makes a new invitation; the former one leads nowhere from then on.",
	"leave-group":                   "The session hears nothing of the group from then on.",
	"set-presence":                  "`available` and `unavailable` are shown to all; `composing`, `recording` and `paused` in a chat.",
	"subscribe-presence":            "Has WhatsApp tell when somebody is there, as far as that person allows it, until the session connects anew.",
	"mark-read":                     "The authors see that their messages were read. Messages that are marked have `readAt`.",
	"list-labels":                   "Labels of WhatsApp Business. An engine or account without them answers 501.",
	"label-chat":                    "Repeating it changes nothing.",
	"unlabel-chat":                  "Repeating it changes nothing.",
	"delete-session-contact-data":   "For privacy. Deletes, of what was written before the request: all messages of the conversation, what the person wrote in groups, reactions, events and what subscribers answered to them, and what is known of the person. Messages that wait are cancelled; one that is on its way is waited for. Deliveries stay in their `sequence`, without payload. The job tells how far it is. What comes later stays: repeat the call for it.",
	"delete-contact-data":           "The same in all sessions of the account, deleted ones too.",
	"my-usage":                      "Requests, and messages that were sent, in a month of UTC. What is counted when stands in docs/usage.md. Figures of the present month are some seconds behind; those of a closed one never change.",
	"list-usage":                    "With `Accept: text/csv` all accounts come as one file, from the same figures; its last line is the total, and without that line it is not complete. Texts that a spreadsheet would take for a formula have an apostrophe before them.",
	"list-billing-periods":          "A month is closed when it has been over for BILLING_CLOSE_AFTER. Its figures never change from then on: what comes to be known later counts for the next month.",
	"get-retention":                 "Messages that are not settled are never dropped.",
	"list-api-keys":                 "Newest first, those that have expired too. At most 50, so there are no pages. The keys of sessions are not among them.",
	"create-api-key":                "The key is shown this once. `scopes` say what it may do: `send` is what goes out to people, `read` what is there, `manage` what should be. With an `Idempotency-Key`, the repeat answers the same key, without its secret. Only with a token: no API key makes keys.",
	"update-api-key":                "Its name, or what it may do, from the next request on. Event streams that it may no longer follow end.",
	"delete-api-key":                "It stops working at once, with its event streams.",
	"rotate-api-key":                "Answers a new secret for the key, this once. The former one is good for `overlap` seconds more, a day unless you say otherwise; 0 ends it at once. There are never more than two: what was replaced before ends now.",
	"put-retention":                 "`messageDays` is exact to some minutes; what only the installation's `maximumDays` ends goes by whole months, so up to a month later. Events go with messages, or earlier.",

	"get-analytics":    "Users, sessions and workers as they are now; messages as they were counted some seconds ago. `successRate` is the part of all sessions that is connected. What each figure counts stands in docs/analytics.md.",
	"analyse-messages": "Messages of all tenants that were accepted or came in during the range, by type, direction and status, as they are now: one that is read hours later moves to `read` in the step in which it was written. Those that were removed since count with the status that they had. Steps are of one minute (1h), 15 minutes (24h), one hour (7d) or 6 hours (30d) of UTC. Figures are some seconds behind.",
	"analyse-users":    "Accounts by tier, new ones and active ones. Logging in makes active; the use of API keys does not. Steps are as for messages; figures are some seconds behind.",
	"analyse-workers":  "For each worker that was heard of, averages and samples over the range; `series` has the fleet as a whole. Workers say how they are once a minute.",

	"get-profile":         "The account that the credential belongs to, as it is now.",
	"update-profile":      "Changes what is given. Another mail address takes the password, and the former address is told of it; links that were mailed there open nothing any more. Where `REQUIRE_EMAIL_VERIFICATION` is on, the address stands in `pendingEmail` until `POST /auth/verify` proves it.",
	"close-account":       "For good. No credential works any more from this moment, and the mail address is free. A job then deletes the sessions, which unlinks their phones, and removes messages, events, webhooks, keys and media. The audit trail and what was counted for billing stay, under the account's ID. The last administrator cannot close his account.",
	"change-password":     "Answers a new token: all others, on every device, stop working, and so does what was mailed. API keys go on.",
	"forgot-password":     "Mails a link and a code to choose a new password, good for an hour and once. The answer is the same whether there is such an account or not. At most three an hour go to one address.",
	"reset-password":      "Chooses a new password with the code from the mail. All tokens and all other codes stop working; API keys go on. The page that the mail links to does the same.",
	"verify-email":        "Proves a mail address with the code from the mail, which is good for 24 hours and once.",
	"resend-verification": "Mails the code again. The answer is the same whether there is anything to prove or not. At most three an hour go to one address.",
}

// What the webhooks of sessions and of accounts have in common.
const (
	rotateDescription = "The new secret is shown this once. For 24 hours deliveries are signed with the former one too, so that a subscriber may take his time. There are never more than two: while the former one signs, only a `secret` of your own or `force` replaces again, which ends it at once, else 409 `rotation_in_progress`. The secret that it has already changes nothing."
	testDescription   = "Sends `webhook.test` to this webhook, whatever it subscribed to; it takes its turn among the other deliveries. With `Prefer: wait=N` the answer is 200 when it was tried, and says how that went; else 202."
	replayDescription = "Sends what has ended, delivered or failed, again: under the same `webhook-id` and `sequence`, with a new timestamp. The range is of when events were written down. The job tells how many; deliveries whose events are no longer kept are passed over. One replay of a webhook at a time, else 409 `replay_in_progress`."
)
