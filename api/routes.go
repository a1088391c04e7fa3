package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Keys of an operation's metadata, which the middlewares read.
const (
	metaAccess     = "access"
	metaIdempotent = "idempotent"
	metaIntake     = "intake"
	metaDocument   = "document"
	metaTicket     = "ticket" // a ticket lets in too
)

// routes is the whole API, one line a route. System routes stand in system.go.
func (a *API) routes() {
	const get, post, put, patch, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete

	add(a, post, "/auth/register", "register", accessPublic, "Open an account", a.register, created)
	add(a, post, "/auth/login", "login", accessPublic, "Get a token", a.login)
	add(a, post, "/auth/logout", "logout", accessToken, "Revoke all tokens", a.logout)
	add(a, get, "/auth/me", "me", accessAccount, "Who am I", a.me, anyScopes, deprecated(deprecation{
		since: time.Date(2026, time.November, 22, 0, 0, 0, 0, time.UTC), instead: "/v1/users/me", reason: "it is an older address of the same account, and may be some seconds behind."}))

	add(a, get, "/api-keys", "list-api-keys", accessToken, "List the account's API keys", a.listKeys)
	add(a, post, "/api-keys", "create-api-key", accessToken, "Make an API key", a.createKey, created, once("create-api-key"), makesKey)
	add(a, patch, "/api-keys/{keyId}", "update-api-key", accessToken, "Change an API key", a.updateKey)
	add(a, del, "/api-keys/{keyId}", "delete-api-key", accessToken, "Delete an API key", a.deleteKey)
	add(a, post, "/api-keys/{keyId}/rotate", "rotate-api-key", accessToken, "Replace an API key's secret", a.rotateKey)
	add(a, put, "/auth/password", "change-password", accessToken, "Change the password", a.changePassword)
	add(a, post, "/auth/password/forgot", "forgot-password", accessPublic, "Ask for a new password", a.forgotPassword)
	add(a, post, "/auth/password/reset", "reset-password", accessPublic, "Choose a new password with a mailed code", a.resetPassword)
	add(a, post, "/auth/verify", "verify-email", accessPublic, "Prove a mail address", a.verifyEmail)
	add(a, post, "/auth/verify/resend", "resend-verification", accessPublic, "Ask for the mail of proof again", a.resendVerification)
	add(a, get, "/users/me", "get-profile", accessAccount, "Read your account", a.profile, anyScopes)
	add(a, patch, "/users/me", "update-profile", accessToken, "Change your account", a.updateProfile)
	add(a, del, "/users/me", "close-account", accessToken, "Close your account", a.closeAccount, accepted)

	add(a, post, "/sessions", "create-session", accessAccount, "Create a session", a.createSession, accepted, once("create-session"), operates)
	add(a, get, "/sessions", "list-sessions", accessAccount, "List sessions", a.listSessions)
	add(a, get, "/sessions/{id}", "get-session", accessSession, "Read a session", a.getSession)
	add(a, patch, "/sessions/{id}", "update-session", accessAccount, "Change a session", a.updateSession)
	add(a, del, "/sessions/{id}", "delete-session", accessAccount, "Delete a session", a.deleteSession, accepted, operates)
	add(a, get, "/sessions/{id}/status", "get-session-status", accessSession, "Ask for the live status", a.sessionStatus)
	add(a, get, "/sessions/{id}/qr", "get-session-qr", accessSession, "Get the QR code to scan", a.sessionQR, qrResponses, manages)
	add(a, post, "/sessions/{id}/link", "create-link", accessAccount, "Make a public page with the QR code", a.createLink, created, operates)
	add(a, del, "/sessions/{id}/link", "delete-link", accessAccount, "End the public page", a.deleteLink)
	add(a, post, "/sessions/{id}/api-key/rotate", "rotate-session-key", accessAccount, "Replace the session's API key", a.rotateSessionKey, operates)
	add(a, post, "/sessions/{id}/start", "start-session", accessAccount, "Start a session", a.startSession, accepted, operates)
	add(a, post, "/sessions/{id}/stop", "stop-session", accessAccount, "Stop a session", a.stopSession, accepted, operates)
	add(a, post, "/sessions/{id}/restart", "restart-session", accessAccount, "Connect a session anew", a.restartSession, accepted, operates)
	add(a, post, "/sessions/{id}/logout", "logout-session", accessAccount, "Unlink a session from its phone", a.logoutSession, accepted, operates)

	add(a, post, "/sessions/{id}/pairing-code", "get-pairing-code", accessSession, "Get a code to enter instead of scanning", a.pairingCode, passes, operates)
	add(a, post, "/sessions/{id}/contacts/check", "check-contacts", accessSession, "Check who is on WhatsApp", a.checkContacts, passes, sends)
	add(a, get, "/sessions/{id}/contacts", "list-contacts", accessSession, "List contacts", a.listContacts, passes)
	add(a, get, "/sessions/{id}/contacts/{address}", "get-contact", accessSession, "Read a contact", a.getContact, passes)
	add(a, get, "/sessions/{id}/contacts/{address}/picture", "get-contact-picture", accessSession, "Find a profile picture", a.contactPicture, passes)
	add(a, get, "/sessions/{id}/groups", "list-groups", accessSession, "List groups", a.listGroups, passes)
	add(a, post, "/sessions/{id}/groups", "create-group", accessSession, "Create a group", a.createGroup, created, passes, once("create-group"))
	add(a, post, "/sessions/{id}/groups/join", "join-group", accessSession, "Join a group by its invitation", a.joinGroup, passes)
	add(a, get, "/sessions/{id}/groups/{groupId}", "get-group", accessSession, "Read a group", a.getGroup, passes)
	add(a, post, "/sessions/{id}/groups/{groupId}/participants", "add-participants", accessSession, "Add people to a group", a.addParticipants, passes)
	add(a, del, "/sessions/{id}/groups/{groupId}/participants", "remove-participants", accessSession, "Remove people from a group", a.removeParticipants, passes)
	add(a, patch, "/sessions/{id}/groups/{groupId}/participants", "set-participant-roles", accessSession, "Say who administers a group", a.setRoles, passes)
	add(a, get, "/sessions/{id}/groups/{groupId}/invite", "get-group-invite", accessSession, "Get a group's invitation", a.groupInvite, passes, manages)
	add(a, post, "/sessions/{id}/groups/{groupId}/invite/revoke", "revoke-group-invite", accessSession, "Replace a group's invitation", a.revokeInvite, passes)
	add(a, post, "/sessions/{id}/groups/{groupId}/leave", "leave-group", accessSession, "Leave a group", a.leaveGroup, passes)
	add(a, post, "/sessions/{id}/presence", "set-presence", accessSession, "Show what the session does", a.setPresence, passes, sends)
	add(a, post, "/sessions/{id}/presence/subscribe", "subscribe-presence", accessSession, "Watch a contact's presence", a.subscribePresence, passes, sends)
	add(a, post, "/sessions/{id}/read", "mark-read", accessSession, "Mark messages as read", a.markRead, passes, sends)
	add(a, get, "/sessions/{id}/labels", "list-labels", accessSession, "List labels", a.listLabels, passes)
	add(a, put, "/sessions/{id}/labels/{labelId}/chats/{chat}", "label-chat", accessSession, "Label a chat", a.labelChat, passes)
	add(a, del, "/sessions/{id}/labels/{labelId}/chats/{chat}", "unlabel-chat", accessSession, "Take a label off a chat", a.unlabelChat, passes)

	add(a, post, "/sessions/{id}/send", "send", accessSession, "Send a message", a.send, accepted, once("send"), takes(takesMessage), documented(formBody), sends, byTier)
	add(a, post, "/sessions/{id}/messages", "send-message", accessSession, "Send a message", a.send, accepted, once("send"), takes(takesMessage), documented(formBody), sends, byTier)
	add(a, post, "/messages", "send-by-key", accessSession, "Send a message with a session key", a.sendByKey, accepted, once("send"), takes(takesMessage), documented(formBody), sends, byTier)
	add(a, post, "/sessions/{id}/messages/batch", "send-batch", accessSession, "Send many messages", a.sendBatch, accepted, large, once("send-batch"), sends, byTier)
	add(a, post, "/sessions/{id}/messages/cancel", "cancel-messages", accessSession, "Cancel many pending messages", a.cancelMessages, sends)
	add(a, get, "/sessions/{id}/messages", "list-messages", accessSession, "Read the history", a.listMessages)
	add(a, get, "/sessions/{id}/messages/export", "export-messages", accessSession, "Export the history", a.exportMessages, exportResponses)
	add(a, del, "/sessions/{id}/contacts/{address}/data", "delete-session-contact-data", accessAccount, "Delete a contact's data from a session", a.forgetSessionContact, accepted)
	add(a, del, "/contacts/{address}/data", "delete-contact-data", accessAccount, "Delete a contact's data from all sessions", a.forgetAccountContact, accepted)
	add(a, get, "/account/retention", "get-retention", accessAccount, "Read how long messages are kept", a.getRetention)
	add(a, put, "/account/retention", "put-retention", accessAccount, "Change how long messages are kept", a.putRetention)
	add(a, get, "/messages/{messageId}", "get-message", accessSession, "Read a message", a.getMessage)
	add(a, del, "/messages/{messageId}", "cancel-message", accessSession, "Cancel a pending message", a.cancelMessage, sends)

	add(a, post, "/messages/{messageId}/retry", "retry-message", accessSession, "Send a failed message again", a.retryMessage, accepted, sends)
	add(a, post, "/messages/{messageId}/edit", "edit-message", accessSession, "Edit a message", a.editMessage, accepted, once("edit-message"), sends, byTier)
	add(a, post, "/messages/{messageId}/revoke", "revoke-message", accessSession, "Delete a message for everyone", a.revokeMessage, accepted, once("revoke-message"), sends, byTier)
	add(a, post, "/messages/{messageId}/reaction", "react", accessSession, "React to a message", a.react, accepted, once("react"), sends, byTier)
	add(a, post, "/messages/{messageId}/forward", "forward-message", accessSession, "Forward a message", a.forward, accepted, once("forward-message"), sends, byTier)

	add(a, post, "/sessions/{id}/media", "upload-media", accessSession, "Upload a medium", a.uploadMedia, created, takes(takesBody), documented(uploadBodies), sends)
	add(a, get, "/media/{mediaId}", "get-media", accessSession, "Download a medium", a.getMedia, mediaResponses)

	add(a, put, "/sessions/{id}/webhook", "put-webhook", accessAccount, "Set the webhook", a.putWebhook)
	add(a, get, "/sessions/{id}/webhook", "get-webhook", accessAccount, "Read the webhook", a.getWebhook)
	add(a, del, "/sessions/{id}/webhook", "delete-webhook", accessAccount, "Remove the webhook", a.deleteWebhook)
	add(a, get, "/sessions/{id}/webhook/deliveries", "list-deliveries", accessAccount, "List deliveries", a.listDeliveries)
	add(a, post, "/sessions/{id}/webhook/rotate-secret", "rotate-webhook-secret", accessAccount, "Replace the webhook's secret", a.rotateSecret)
	add(a, post, "/sessions/{id}/webhook/test", "test-webhook", accessAccount, "Send a test event", a.testWebhook, accepted, once("test-webhook"))
	add(a, post, "/sessions/{id}/webhook/replay", "replay-webhook", accessAccount, "Deliver a range again", a.replayWebhook, accepted, once("replay-webhook"))
	add(a, put, "/webhook", "put-account-webhook", accessAccount, "Set the account's webhook", a.putAccountWebhook)
	add(a, get, "/webhook", "get-account-webhook", accessAccount, "Read the account's webhook", a.getAccountWebhook)
	add(a, del, "/webhook", "delete-account-webhook", accessAccount, "Remove the account's webhook", a.deleteAccountWebhook)
	add(a, get, "/webhook/deliveries", "list-account-deliveries", accessAccount, "List deliveries of the account's webhook", a.listAccountDeliveries)
	add(a, post, "/webhook/rotate-secret", "rotate-account-webhook-secret", accessAccount, "Replace the secret of the account's webhook", a.rotateAccountSecret)
	add(a, post, "/webhook/test", "test-account-webhook", accessAccount, "Send a test event to the account's webhook", a.testAccountWebhook, accepted, once("test-webhook"))
	add(a, post, "/webhook/replay", "replay-account-webhook", accessAccount, "Deliver a range again to the account's webhook", a.replayAccountWebhook, accepted, once("replay-webhook"))
	add(a, post, "/webhook-deliveries/{deliveryId}/replay", "replay-delivery", accessAccount, "Deliver once more", a.replayDelivery, accepted)
	add(a, get, "/webhook-deliveries/{deliveryId}", "get-delivery", accessAccount, "Read a delivery with its attempts", a.getDelivery)

	add(a, get, "/events", "account-events", accessAccount, "Follow the events of all sessions", a.accountEvents, streamResponses)
	add(a, post, "/events/ticket", "account-ticket", accessAccount, "Get a ticket for a browser", a.accountTicket, created, reads)
	add(a, get, "/sessions/{id}/events", "session-events", accessSession, "Follow a session's events", a.sessionEvents, streamResponses)
	add(a, post, "/sessions/{id}/events/ticket", "session-ticket", accessSession, "Get a ticket for a browser", a.sessionTicket, created, reads)

	add(a, get, "/jobs", "list-jobs", accessAccount, "List jobs", a.listJobs)
	add(a, get, "/jobs/{jobId}", "get-job", accessSession, "Read a job", a.getJob, anyScopes)

	add(a, post, "/admin/workers", "announce-worker", accessAdmin, "Announce a worker", a.announceWorker, created, once("announce-worker"))
	add(a, get, "/admin/workers", "list-workers", accessAdmin, "List workers", a.listWorkers)
	add(a, get, "/admin/workers/metrics", "worker-metrics", accessAdmin, "Read how busy workers were", a.workerMetrics) // before {workerId}: see notWorkers
	add(a, post, "/admin/workers/broadcast", "broadcast", accessAdmin, "Tell workers something", a.broadcast)
	add(a, get, "/admin/workers/{workerId}", "get-worker", accessAdmin, "Read a worker", a.getWorker)
	add(a, patch, "/admin/workers/{workerId}", "update-worker", accessAdmin, "Change a worker", a.updateWorker)
	add(a, del, "/admin/workers/{workerId}", "remove-worker", accessAdmin, "Remove a worker", a.removeWorker, accepted)
	add(a, post, "/admin/workers/{workerId}/drain", "drain-worker", accessAdmin, "Empty a worker", a.drainWorker, accepted)
	add(a, post, "/admin/rebalance", "rebalance", accessAdmin, "Even out the load of workers", a.rebalance, accepted, once("rebalance"))
	add(a, post, "/admin/sessions/{id}/migrate", "migrate-session", accessAdmin, "Move a session to another worker", a.migrateSession, accepted, once("migrate-session"))
	add(a, get, "/admin/scaling", "get-scaling", accessAdmin, "Read how many workers there should be", a.getScaling)

	add(a, get, "/admin/users", "list-users", accessAdmin, "List users", a.listUsers)
	add(a, post, "/admin/users", "create-user", accessAdmin, "Open an account for somebody", a.createUser, created)
	add(a, get, "/admin/users/{userId}", "get-user", accessAdmin, "Read a user", a.getUser)
	add(a, patch, "/admin/users/{userId}", "update-user", accessAdmin, "Change a user", a.updateUser)
	add(a, del, "/admin/users/{userId}", "delete-user", accessAdmin, "Close a user's account", a.closeUser, accepted)
	add(a, post, "/admin/users/{userId}/reset-password", "reset-user-password", accessAdmin, "Give a user another password", a.resetUserPassword)
	add(a, post, "/admin/users/{userId}/pause", "pause-user", accessAdmin, "Pause the sending of a user", a.pauseUser)
	add(a, post, "/admin/users/{userId}/resume", "resume-user", accessAdmin, "Resume the sending of a user", a.resumeUser)
	add(a, get, "/admin/sessions", "list-all-sessions", accessAdmin, "List sessions of all tenants", a.listAllSessions)
	add(a, post, "/admin/sessions/{id}/pause", "pause-session", accessAdmin, "Pause the sending of a session", a.pauseSession)
	add(a, post, "/admin/sessions/{id}/resume", "resume-session", accessAdmin, "Resume the sending of a session", a.resumeSession)
	add(a, post, "/admin/platform/pause", "pause-platform", accessAdmin, "Pause all sending", a.pausePlatform)
	add(a, post, "/admin/platform/resume", "resume-platform", accessAdmin, "Resume all sending", a.resumePlatform)
	add(a, get, "/admin/settings", "get-settings", accessAdmin, "Read the configuration", a.getSettings)
	add(a, get, "/admin/logs", "list-logs", accessAdmin, "Read the audit trail", a.listLogs)
	add(a, get, "/users/me/logs", "list-own-logs", accessToken, "Read what was done with the account", a.listOwnLogs)
	add(a, get, "/users/me/usage", "my-usage", accessAccount, "Read what the account used", a.myUsage)
	add(a, get, "/admin/usage", "list-usage", accessAdmin, "Read what all accounts used", a.adminUsage, adminUsageResponses)
	add(a, get, "/admin/usage/periods", "list-billing-periods", accessAdmin, "List the months that are closed", a.listPeriods)

	add(a, get, "/admin/analytics", "get-analytics", accessAdmin, "Read how the platform is", a.analytics)
	add(a, get, "/admin/analytics/messages", "analyse-messages", accessAdmin, "Read what became of messages", a.messageAnalytics)
	add(a, get, "/admin/analytics/users", "analyse-users", accessAdmin, "Read how many users there are, and come", a.userAnalytics)
	add(a, get, "/admin/analytics/workers", "analyse-workers", accessAdmin, "Read how busy the fleet was", a.workerAnalytics)

	add(a, post, "/admin/workers/register", "register-worker", accessWorker, "Register a worker node", a.registerWorker)
	add(a, put, "/admin/workers/{workerId}/heartbeat", "worker-heartbeat", accessWorker, "Renew a worker's lease", a.heartbeat)
	add(a, post, "/admin/workers/{workerId}/events", "worker-events", accessWorker, "Hand over events", a.events)
	add(a, post, "/admin/workers/{workerId}/media", "worker-put-media", accessWorker, "Hand over a medium that came in", a.workerPutMedia, created, takes(takesBody), documented(uploadBodies))
	add(a, get, "/admin/workers/{workerId}/media/{mediaId}", "worker-get-media", accessWorker, "Fetch a medium to be sent", a.workerGetMedia, mediaResponses)
}

// Options of routes.
type option func(*huma.Operation)

func created(o *huma.Operation)  { o.DefaultStatus = http.StatusCreated }
func accepted(o *huma.Operation) { o.DefaultStatus = http.StatusAccepted }

// once lets an Idempotency-Key guard the route. Routes with one scope are aliases: a key that was used on one of them was
// used on all. Registering takes no key, since its answer is all secrets.
func once(scope string) option {
	return func(o *huma.Operation) { o.Metadata[metaIdempotent] = scope }
}

// tagOf groups routes on the documentation page.
var tagOf = map[access]string{accessWorker: "Worker protocol", accessAdmin: "Administration"}

var securityOf = map[access][]map[string][]string{
	accessToken:   {{"token": {}}},
	accessAccount: {{"token": {}}, {"apiKey": {}}},
	accessSession: {{"token": {}}, {"apiKey": {}}},
	accessAdmin:   {{"token": {}}},
	accessWorker:  {{"workerToken": {}}},
}

// add registers a route: who may call it stands with it.
func add[I, O any](a *API, method, path, id string, need access, summary string, handler func(context.Context, *I) (*O, error), options ...option) {
	o := huma.Operation{OperationID: id, Method: method, Path: basePath + path, Summary: summary, Description: describe(id),
		Metadata: map[string]any{metaAccess: need}, Security: securityOf[need], Tags: []string{tag(need, path)},
		MaxBodyBytes: bodyLimit, Errors: []int{400, 401, 403, 404, 409, 413, 415, 422, 429, 500, 503}}
	if need == accessPublic {
		o.Security = []map[string][]string{}
	}
	if method != http.MethodGet {
		o.Metadata[metaAudit] = actionOf(id)
	}
	for _, option := range options {
		option(&o)
	}
	scoped(&o, need)
	inAddress(&o)
	huma.Register(a.huma, o, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err != nil {
			return nil, a.failure(ctx, err)
		}
		return out, nil
	})
	document(a.huma.OpenAPI(), o)
	if maybeDone[I, O]() {
		answersAtOnce(a.huma.OpenAPI(), o)
	}
}
