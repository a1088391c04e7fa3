package tracing

import "strings"

// EndpointOf is the URL that traces go to, empty if there are none, by the values of OTEL_SDK_DISABLED, OTEL_TRACES_EXPORTER,
// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT and OTEL_EXPORTER_OTLP_ENDPOINT, of which the last is a base for all signals.
// https://opentelemetry.io/docs/specs/otel/protocol/exporter/#endpoint-urls-for-otlphttp
func EndpointOf(disabled bool, exporter, traces, all string) string {
	switch {
	case disabled || strings.EqualFold(strings.TrimSpace(exporter), "none"):
		return ""
	case traces != "":
		return traces
	case all != "":
		return strings.TrimSuffix(all, "/") + "/v1/traces"
	}
	return ""
}
