package wafake

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// Control is the network for who isn't in this process: POST /<what> with the values of a form, see orders. The answer is
// JSON. It asks nobody who he is, so it belongs on a loopback address.
func (s *Server) Control() http.Handler {
	mux := http.NewServeMux()
	for name, order := range orders {
		mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
			w.Header().Set("Content-Type", "application/json")
			out, err := order(s, r)
			if err != nil {
				w.WriteHeader(http.StatusBadRequest)
				out = map[string]string{"error": err.Error()}
			}
			_ = json.NewEncoder(w).Encode(out)
		})
	}
	return mux
}

// orders is what the network can be told from outside, and what it tells.
var orders = map[string]func(*Server, *http.Request) (any, error){
	"scan": func(s *Server, r *http.Request) (any, error) { return s.Scan(number(r), r.FormValue("qr")) },
	"code": func(s *Server, r *http.Request) (any, error) { return s.EnterCode(number(r), r.FormValue("code")) },
	"write": func(s *Server, r *http.Request) (any, error) {
		from, err := s.Person(number(r))
		if err != nil {
			return nil, err
		}
		to, err := types.ParseJID(r.FormValue("to"))
		if err != nil || to.User == "" {
			to = types.NewJID(digits(r.FormValue("to")), types.DefaultUserServer)
		}
		return from.Write(to, r.FormValue("text"))
	},
	"read": func(s *Server, r *http.Request) (any, error) {
		p, err := s.Person(number(r))
		if err != nil {
			return nil, err
		}
		return true, p.Read(r.FormValue("id"))
	},
	"shown": func(s *Server, r *http.Request) (any, error) {
		p, err := s.Person(number(r))
		if err != nil {
			return nil, err
		}
		return p.Shown(), nil
	},
	"logins":  func(s *Server, r *http.Request) (any, error) { return s.Logins(number(r)), nil },
	"fights":  func(s *Server, r *http.Request) (any, error) { return s.Fights(number(r)), nil },
	"sends":   func(s *Server, r *http.Request) (any, error) { return s.Sends(number(r)), nil },
	"devices": func(s *Server, r *http.Request) (any, error) { return s.Devices(number(r)), nil },

	"drop":      func(s *Server, r *http.Request) (any, error) { return s.Drop(number(r)), nil },
	"blackhole": func(s *Server, r *http.Request) (any, error) { return s.BlackHole(number(r)), nil },
	"replace":   func(s *Server, r *http.Request) (any, error) { return s.Replace(number(r)), nil },
	"unlink":    func(s *Server, r *http.Request) (any, error) { return s.Unlink(number(r)), nil },
	"absent":    func(s *Server, r *http.Request) (any, error) { s.Absent(number(r)); return true, nil },
	"pardon":    func(s *Server, r *http.Request) (any, error) { s.Pardon(number(r)); return true, nil },
	"ban": func(s *Server, r *http.Request) (any, error) {
		lasts, err := time.ParseDuration(r.FormValue("lasts"))
		s.Ban(number(r), 101, lasts)
		return true, err
	},
	"outdated": func(s *Server, r *http.Request) (any, error) {
		s.Outdated(r.FormValue("yes") == "true")
		return true, nil
	},
	"lose":      counted((*Server).Lose),
	"loseack":   counted((*Server).LoseAck),
	"break":     counted((*Server).BreakBeforeAck),
	"duplicate": counted((*Server).Duplicate),
}

func number(r *http.Request) string { return r.FormValue("number") }

func counted(do func(*Server, int)) func(*Server, *http.Request) (any, error) {
	return func(s *Server, r *http.Request) (any, error) {
		n, err := strconv.Atoi(r.FormValue("messages"))
		if err != nil {
			return nil, fmt.Errorf("messages: %w", err)
		}
		do(s, n)
		return true, nil
	}
}
