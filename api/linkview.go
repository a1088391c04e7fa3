package api

import (
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/skip2/go-qrcode"
	"golang.org/x/text/language"

	"kurir/models"
)

// What the page of a link shows.
const (
	linkWaiting = "waiting" // for a QR code
	linkScan    = "scan"
	linkLinked  = "linked"
	linkTrouble = "trouble"
	linkExpired = "expired"
	linkGone    = "gone" // or never was
	linkBusy    = "busy"
)

// linkView is the page of a link at one moment. Its JSON is what the page's stream sends.
type linkView struct {
	State string       `json:"state"`
	Title string       `json:"title"`
	Text  string       `json:"text"`
	QR    template.URL `json:"qr,omitempty"`
	Final bool         `json:"final"` // nothing will change any more

	status int           // of the page
	next   time.Duration // until it may be another one by itself
}

// linkState decides what a link's page shows. A link that was used shows no code ever again, whatever becomes of the
// session.
func linkState(l *models.SessionLink, now time.Time) string {
	s := &l.Session
	switch {
	case !now.Before(l.ExpiresAt):
		return linkExpired
	case l.LinkedAt != nil:
		return linkLinked
	case s.Desired != models.DesiredRunning, s.Status == models.SessionDisconnected, s.Status == models.SessionError:
		return linkTrouble
	case s.Status == models.SessionQRRequired && s.QRCode != nil && s.QRExpiresAt != nil && now.Before(*s.QRExpiresAt):
		return linkScan
	}
	return linkWaiting
}

// viewLink says what to show of a link, nil if there is none.
func viewLink(l *models.SessionLink, words *linkWords, now time.Time) (linkView, error) {
	if l == nil {
		return words.view(linkGone), nil
	}
	v := words.view(linkState(l, now))
	v.next = l.ExpiresAt.Sub(now)
	switch v.State {
	case linkLinked:
		if number := l.Session.PhoneNumber; number != nil && len(*number) > 6 {
			v.Text = fmt.Sprintf(words.LinkedNumber, (*number)[len(*number)-3:])
		}
	case linkScan:
		picture, err := qrPicture(*l.Session.QRCode)
		if err != nil {
			return v, err
		}
		v.QR, v.next = picture, min(v.next, l.Session.QRExpiresAt.Sub(now))
	}
	return v, nil
}

// qrPicture draws a QR code as an SVG of a few KB, sharp at any size.
func qrPicture(text string) (template.URL, error) {
	code, err := qrcode.New(text, qrcode.Medium)
	if err != nil {
		return "", err
	}
	modules := code.Bitmap()
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[1]d" shape-rendering="crispEdges"><path fill="#fff" d="M0 0h%[1]dv%[1]dH0z"/><path d="`, len(modules))
	for y, row := range modules {
		for x := 0; x < len(row); x++ {
			from := x
			for x < len(row) && row[x] {
				x++
			}
			if x > from {
				fmt.Fprintf(&svg, "M%d %dh%dv1h-%dz", from, y, x-from, x-from)
			}
		}
	}
	svg.WriteString(`"/></svg>`)
	return template.URL("data:image/svg+xml;base64," + base64.StdEncoding.EncodeToString([]byte(svg.String()))), nil
}

// linkStatus is the HTTP status of a page, where it is not 200.
var linkStatus = map[string]int{linkExpired: http.StatusGone, linkGone: http.StatusNotFound, linkBusy: http.StatusTooManyRequests}

func (w *linkWords) view(state string) linkView {
	v := linkView{State: state, Title: w.States[state][0], Text: w.States[state][1], status: linkStatus[state],
		Final: state == linkLinked || state == linkExpired || state == linkGone}
	if v.status == 0 {
		v.status = http.StatusOK
	}
	return v
}

// linkWords are the words of the page in one language.
type linkWords struct {
	Lang         string
	Page         string
	States       map[string][2]string // title and text
	LinkedNumber string               // with the last digits
	Alt          string
	Steps        []string
	SamePhone    string
	Trust        string
	Lost         string
	NoScript     string
	Simulator    string
}

var linkLanguages = []*linkWords{{
	Lang: "en", Page: "Link WhatsApp",
	States: map[string][2]string{
		linkWaiting: {"One moment…", "The QR code is being prepared. It appears here by itself."},
		linkScan:    {"Scan this code with WhatsApp", "The code changes every few seconds. Keep this page open."},
		linkLinked:  {"Linked", "The phone is linked. You can close this page."},
		linkTrouble: {"Linking does not work right now", "The code was not scanned in time, or something went wrong. Ask whoever sent you this link to start again. This page then goes on by itself."},
		linkExpired: {"This link has expired", "Ask whoever sent it to you for a new one."},
		linkGone:    {"This link does not work", "It was replaced, withdrawn or copied incompletely. Ask whoever sent it to you for a new one."},
		linkBusy:    {"Too many visits", "Please wait a minute, then load this page again."},
	},
	LinkedNumber: "The number ending in %s is linked. You can close this page.",
	Alt:          "QR code to scan with WhatsApp",
	Steps: []string{"Open WhatsApp on the phone whose number you want to link.", "On Android tap ⋮ at the top, on an iPhone tap Settings.",
		"Tap Linked devices, then Link a device.", "Point the phone at this code."},
	SamePhone: "Is this page on that same phone? Open it on a computer or on another phone, and scan it there.",
	Trust:     "Scan only if you trust whoever sent you this link: they will be able to read and send messages with this number. You can unlink at any time, in WhatsApp under Linked devices.",
	Lost:      "The connection is lost. Trying again…",
	NoScript:  "Load this page again to see the present code.",
	Simulator: "Simulation: this code is for trying out. WhatsApp cannot scan it.",
}, {
	Lang: "id", Page: "Tautkan WhatsApp",
	States: map[string][2]string{
		linkWaiting: {"Sebentar…", "Kode QR sedang disiapkan dan akan muncul di sini dengan sendirinya."},
		linkScan:    {"Pindai kode ini dengan WhatsApp", "Kode berganti setiap beberapa detik. Biarkan halaman ini tetap terbuka."},
		linkLinked:  {"Tertaut", "Ponsel sudah tertaut. Anda boleh menutup halaman ini."},
		linkTrouble: {"Saat ini belum bisa ditautkan", "Kode tidak dipindai tepat waktu, atau terjadi gangguan. Mintalah pengirim tautan ini untuk memulai lagi. Halaman ini akan berlanjut dengan sendirinya."},
		linkExpired: {"Tautan ini sudah kedaluwarsa", "Mintalah tautan baru kepada pengirimnya."},
		linkGone:    {"Tautan ini tidak berlaku", "Tautan sudah diganti, dicabut, atau tidak tersalin lengkap. Mintalah tautan baru kepada pengirimnya."},
		linkBusy:    {"Terlalu banyak kunjungan", "Tunggu satu menit, lalu muat ulang halaman ini."},
	},
	LinkedNumber: "Nomor yang berakhiran %s sudah tertaut. Anda boleh menutup halaman ini.",
	Alt:          "Kode QR untuk dipindai dengan WhatsApp",
	Steps: []string{"Buka WhatsApp di ponsel yang nomornya ingin Anda tautkan.", "Di Android ketuk ⋮ di bagian atas, di iPhone ketuk Pengaturan.",
		"Ketuk Perangkat tertaut, lalu Tautkan perangkat.", "Arahkan ponsel ke kode ini."},
	SamePhone: "Halaman ini terbuka di ponsel yang sama? Bukalah di komputer atau ponsel lain, lalu pindai dari sana.",
	Trust:     "Pindai hanya jika Anda percaya kepada pengirim tautan ini: ia akan dapat membaca dan mengirim pesan dengan nomor ini. Anda dapat memutuskannya kapan saja di WhatsApp, pada Perangkat tertaut.",
	Lost:      "Sambungan terputus. Mencoba lagi…",
	NoScript:  "Muat ulang halaman ini untuk melihat kode terbaru.",
	Simulator: "Simulasi: kode ini untuk uji coba. WhatsApp tidak dapat memindainya.",
}}

var linkMatcher = language.NewMatcher([]language.Tag{language.English, language.Indonesian})

// wordsFor chooses the language: the one that the link's maker chose, else as the browser asks for.
func wordsFor(l *models.SessionLink, acceptLanguage string) *linkWords {
	if l != nil && l.Language != nil {
		acceptLanguage = *l.Language
	}
	_, i := language.MatchStrings(linkMatcher, short(acceptLanguage))
	return linkLanguages[i]
}
