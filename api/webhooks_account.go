package api

import "context"

// The account's webhook: the same as a session's, without a session in the path.

// PutAccountWebhookInput sets the account's webhook.
type PutAccountWebhookInput struct {
	Body WebhookFields
}

func (a *API) putAccountWebhook(ctx context.Context, in *PutAccountWebhookInput) (*Reply[WebhookResource], error) {
	return a.putWebhook(ctx, &PutWebhookInput{Body: in.Body})
}

func (a *API) getAccountWebhook(ctx context.Context, _ *struct{}) (*Reply[WebhookResource], error) {
	return a.getWebhook(ctx, &SessionPath{})
}

func (a *API) deleteAccountWebhook(ctx context.Context, _ *struct{}) (*Reply[Done], error) {
	return a.deleteWebhook(ctx, &SessionPath{})
}

// RotateAccountSecretInput replaces the secret of the account's webhook.
type RotateAccountSecretInput struct {
	Body *RotateSecretFields
}

func (a *API) rotateAccountSecret(ctx context.Context, in *RotateAccountSecretInput) (*Reply[WebhookResource], error) {
	return a.rotateSecret(ctx, &RotateSecretInput{Body: in.Body})
}

// TestAccountWebhookInput asks for a test event to the account's webhook.
type TestAccountWebhookInput struct {
	OnceHeader
	Prefer string `header:"Prefer" doc:"wait=N, up to 30: answer when it was tried" example:"wait=20"`
}

func (a *API) testAccountWebhook(ctx context.Context, in *TestAccountWebhookInput) (*Started[DeliveryResource], error) {
	return a.testWebhook(ctx, &TestWebhookInput{Prefer: in.Prefer})
}

// ReplayAccountInput asks for a range of the deliveries of the account's webhook once more.
type ReplayAccountInput struct {
	OnceHeader
	Body ReplayFields
}

func (a *API) replayAccountWebhook(ctx context.Context, in *ReplayAccountInput) (*Started[StartedJob], error) {
	return a.replayWebhook(ctx, &ReplayInput{Body: in.Body})
}

func (a *API) listAccountDeliveries(ctx context.Context, in *DeliveryFilter) (*Reply[DeliveryList], error) {
	return a.listDeliveries(ctx, &DeliveriesInput{DeliveryFilter: *in})
}
