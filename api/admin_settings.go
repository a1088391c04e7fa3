package api

import (
	"context"

	"kurir/models"
)

// Setting is one variable of the environment as it holds, with nothing that is secret.
type Setting struct {
	Name   string `json:"name" example:"PORT"`
	Value  string `json:"value" doc:"Of a secret: set or not set" example:"8000"`
	Given  bool   `json:"given" doc:"Whether the environment says so; else it is the default"`
	Secret bool   `json:"secret"`
}

// SettingsData is the configuration of this installation.
type SettingsData struct {
	Version  string    `json:"version" example:"1.2.0"`
	Sending  Pause     `json:"sending" doc:"Whether everything is paused"`
	Settings []Setting `json:"settings" doc:"Of the process that answers; others may have been started with another environment"`
}

func (a *API) getSettings(ctx context.Context, _ *struct{}) (*Reply[SettingsData], error) {
	since, err := models.PlatformPaused(ctx, a.db.Pool)
	if err != nil {
		return nil, databaseFault(err)
	}
	settings := a.cfg.Settings
	if settings == nil {
		settings = []Setting{}
	}
	return reply(SettingsData{Version: a.cfg.Version, Sending: pause(since).Body.Data, Settings: settings}), nil
}
