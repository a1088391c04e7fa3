package simnet

import (
	"errors"
	"fmt"
	"time"
)

// settings are what POST /config changes while the network runs.
type settings struct {
	ScanDelay    duration `json:"scanDelay"`
	SendLatency  duration `json:"sendLatency"`
	ReceiptDelay duration `json:"receiptDelay"`
	ReadDelay    duration `json:"readDelay"`
	Reply        string   `json:"reply"`
	FailRate     float64  `json:"failRate"` // share of sends that fail for good, 0 to 1
	FailCode     string   `json:"failCode"` // with this code
}

var errBadConfig = errors.New("bad configuration of the simulated network")

func (s *settings) check() error {
	switch {
	case s.Reply != ReplyEcho && s.Reply != ReplyNone:
		return fmt.Errorf("%w: reply is %q, not %q or %q", errBadConfig, s.Reply, ReplyEcho, ReplyNone)
	case s.FailRate < 0 || s.FailRate > 1:
		return fmt.Errorf("%w: failRate is %v, not 0 to 1", errBadConfig, s.FailRate)
	case s.SendLatency < 0 || s.ReceiptDelay < 0 || s.ReadDelay < 0:
		return fmt.Errorf("%w: only scanDelay may be never", errBadConfig)
	case s.FailCode == "":
		return fmt.Errorf("%w: failCode is empty", errBadConfig)
	}
	return nil
}

// duration is written as "1.5s" in JSON, and "never" if it is negative.
type duration time.Duration

const never = "never"

// MarshalText implements encoding.TextMarshaler.
func (d duration) MarshalText() ([]byte, error) {
	if d < 0 {
		return []byte(never), nil
	}
	return []byte(time.Duration(d).String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *duration) UnmarshalText(b []byte) error {
	if string(b) == never {
		*d = -1
		return nil
	}
	v, err := time.ParseDuration(string(b))
	if err == nil && v < 0 {
		err = fmt.Errorf("duration %s is negative", v)
	}
	*d = duration(v)
	return err
}
