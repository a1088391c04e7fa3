package api

// metaAudit is the action of an operation that changes something, in its metadata.
const metaAudit = "audit"

// unaudited are the operations that are no reads and leave no line in the audit trail, and why.
var unaudited = map[string]string{
	"send": "the message is a row", "send-message": "the message is a row", "send-by-key": "the message is a row", "send-batch": "the messages are rows",
	"react": "a message of its own", "forward-message": "a message of its own",
	"check-contacts": "a read", "get-pairing-code": "a read, as that of a QR code is",
	"set-presence": "nothing stays of it", "subscribe-presence": "nothing stays of it", "mark-read": "receipts, as many as messages come in",
	"worker-heartbeat": "its metrics are rows", "worker-events": "what happened are rows", "worker-put-media": "the medium is a row",
}

// actions are the names under which operations stand in the audit trail. What is not here stands there by its ID.
var actions = map[string]string{
	"register": "user.registered", "login": "user.logged_in", "logout": "user.tokens_revoked",

	"create-session": "session.created", "update-session": "session.changed", "delete-session": "session.delete_requested",
	"start-session": "session.start_requested", "stop-session": "session.stop_requested", "restart-session": "session.restart_requested",
	"logout-session": "session.logout_requested", "rotate-session-key": "session.key_rotated",
	"create-link": "link.created", "delete-link": "link.ended",

	"create-group": "group.created", "join-group": "group.joined", "leave-group": "group.left", "add-participants": "group.participants_added",
	"remove-participants": "group.participants_removed", "set-participant-roles": "group.roles_changed", "revoke-group-invite": "group.invitation_replaced",
	"label-chat": "chat.labelled", "unlabel-chat": "chat.unlabelled",

	"edit-message": "message.edited", "revoke-message": "message.revoked", "cancel-message": "message.cancelled", "cancel-messages": "messages.cancelled",
	"retry-message": "message.retried", "upload-media": "media.uploaded",
	"delete-session-contact-data": "contact.forget_requested", "delete-contact-data": "contact.forget_requested", "put-retention": "retention.changed",

	"put-webhook": "webhook.changed", "put-account-webhook": "webhook.changed", "delete-webhook": "webhook.deleted", "delete-account-webhook": "webhook.deleted",
	"rotate-webhook-secret": "webhook.secret_rotated", "rotate-account-webhook-secret": "webhook.secret_rotated", "test-webhook": "webhook.tested",
	"test-account-webhook": "webhook.tested", "replay-webhook": "webhook.replay_requested", "replay-account-webhook": "webhook.replay_requested",
	"replay-delivery": "delivery.replay_requested", "account-ticket": "ticket.created", "session-ticket": "ticket.created",

	"announce-worker": "worker.announced", "update-worker": "worker.changed", "remove-worker": "worker.removal_requested", "drain-worker": "worker.drain_requested",
	"broadcast": "workers.broadcast", "rebalance": "sessions.rebalance_requested", "migrate-session": "session.migration_requested", "register-worker": "worker.registered",

	"create-user": "user.created", "update-user": "user.changed", "delete-user": "user.close_requested", "reset-user-password": "user.password_reset",
	"pause-session": "session.sending_paused", "resume-session": "session.sending_resumed", "pause-user": "user.sending_paused",
	"resume-user": "user.sending_resumed", "pause-platform": "platform.sending_paused", "resume-platform": "platform.sending_resumed",
}

// actionOf is the action of an operation, "" for one that is not audited.
func actionOf(id string) string {
	if _, is := unaudited[id]; is {
		return ""
	}
	if action, ok := actions[id]; ok {
		return action
	}
	return id
}
