package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"

	"kurir/tracing"
)

// samplers are the values of OTEL_TRACES_SAMPLER. The SDK would go on with another one's default, and say so nowhere but on stderr.
var samplers = []string{"always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"}

func (c *config) checkTraces() (faults []error) {
	oneOf := func(name, value string, allowed ...string) {
		for _, a := range allowed {
			if strings.ToLower(strings.TrimSpace(value)) == a {
				return
			}
		}
		faults = append(faults, fmt.Errorf("%s: %q is none of %s", name, value, strings.Join(allowed, ", ")))
	}
	oneOf("OTEL_TRACES_EXPORTER", c.TracesExporter, "otlp", "none")
	oneOf("TRACE_CALLERS", c.TraceCallers, "continue", "link")
	if c.TracesSampler != "" {
		oneOf("OTEL_TRACES_SAMPLER", c.TracesSampler, samplers...)
	}
	at := c.tracesTo()
	if at == "" {
		return faults
	}
	if u, err := url.Parse(at); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		faults = append(faults, errors.New("OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: expected an http or https URL"))
	}
	protocol := c.OTLPProtocol
	if c.OTLPTracesProtocol != "" {
		protocol = c.OTLPTracesProtocol
	}
	if protocol != "" {
		oneOf("OTEL_EXPORTER_OTLP_PROTOCOL", protocol, "http/protobuf")
	}
	return faults
}

// tracesTo is the URL that traces go to, empty if there are none.
func (c *config) tracesTo() string {
	return tracing.EndpointOf(c.TelemetryOff, c.TracesExporter, c.OTLPTraces, c.OTLPEndpoint)
}

// tracer makes that of a part of the program, nil without an endpoint.
func (c *config) tracer(part, instance string, log *slog.Logger) (*tracing.Tracer, error) {
	return tracing.New(tracing.Config{Endpoint: c.tracesTo(), Service: "kurir-" + part, Instance: instance, Version: version,
		LinkCallers: strings.EqualFold(strings.TrimSpace(c.TraceCallers), "link")}, log)
}

// processName tells this process from others of its kind.
func processName() string {
	host, _ := os.Hostname()
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}
