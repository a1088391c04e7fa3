// Package wafake is a fake WhatsApp server, for tests and for trying the worker without WhatsApp. The unmodified whatsmeow
// connects to it by its HTTP clients, and trusts its certificates because whatsmeow.WACertPubKey is a variable. What
// passes here is consistent with whatsmeow. It proves nothing about WhatsApp: the fake was written from whatsmeow's
// source, so a mistake that whatsmeow makes, it makes too.
//
//	s := wafake.Start(t)
//	s.Configure(client, "worker-1")            // any *whatsmeow.Client, before Connect; or see Trust, Transport and Label
//	jid, err := s.Scan("491701", code)         // a code of its events.QR; or s.EnterCode("491701", code)
//	ann, err := s.Person("491702")             // somebody to write to, who has a phone: device 0 of the number
//	id, err := ann.Write(jid.ToNonAD(), "hi")
//	m, err := ann.Await(sent.ID)               // what her phone shows of a message; ann.Shown() is everything
//
// Everybody is on WhatsApp: a number that is written to or looked for gets a phone, unless Absent was called. Each account
// has a LID. A number that is linked has a phone, too, which is shown what its linked devices send. The network fails on
// demand (faults.go, commands.go), only ever for linked devices, never for the people's own phones and companions; and it tells what
// happened (witness.go): which client held which device from when to when, and what each sent. In another process it takes
// the same orders over HTTP (control.go, cmd/wafake), for tests of other programs and for `make run-wafake`, whose worker is built with
// -tags=wafake.
//
// A stanza waits for a device until the device acknowledges it, as whatsmeow does: by an ack, or a message by its receipt.
// A login under a device's keys ends the connection that the device had, with a conflict. An ID that comes twice is shown
// once.
//
// Not here: history and settings that a phone hands to a device that it links, channels but for what they publish, status
// posts, communities, and all limits of rate or age that WhatsApp has.
//
// It links whatsmeow and, by it, libsignal, which is under the GPL: only tests of worker/whatsapp, programs under
// here, and the build of cmd/kurir-whatsapp for trials may import it.
package wafake
