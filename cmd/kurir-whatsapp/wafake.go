//go:build wafake

package main

import (
	"net/http"

	"kurir/worker/whatsapp/wafake"
)

// fakeAddress is where the command wafake listens, and its other port takes orders.
const fakeAddress = "127.0.0.1:8090"

// network is the way to a fake WhatsApp on this machine, which this build takes for the real one. Whoever trusts the fake trusts anybody, so
// that nothing but a trial is to be built so.
func network() (way *http.Transport, hello string) {
	wafake.Trust()
	return wafake.Transport(fakeAddress), trial
}

const trial = `
  Kurir is running, with a worker on a FAKE WhatsApp on this machine: nothing reaches anybody. Leave the QR code that appears here alone.

  Documentation   %[1]s/docs

  1. Link a phone of the fake. Copy and paste this into another terminal:

API=%[1]s/api/v1
FAKE=http://127.0.0.1:8091
SESSION=phone-$RANDOM
KEY=$(curl -s $API/auth/register -H 'Content-Type: application/json' \
  -d '{"email":"me-'$RANDOM'@example.com","password":"correct horse battery"}' | sed -n 's/.*"apiKey":"\([^"]*\)".*/\1/p')
(umask 077; echo "API=$API FAKE=$FAKE SESSION=$SESSION KEY=$KEY" > '%[2]s')
curl -s $API/sessions -H "X-Api-Key: $KEY" -H 'Content-Type: application/json' -d '{"name":"My phone","sessionId":"'$SESSION'"}'
until QR=$(curl -s $API/sessions/$SESSION/qr -H "X-Api-Key: $KEY" | sed -n 's/.*"qr":"\([^"]*\)".*/\1/p'); [ -n "$QR" ]; do sleep 1; done
curl -s $FAKE/scan -d number=491700000001 --data-urlencode qr="$QR"

  2. When it says "connected" here, somebody writes to it, and is answered. Later, in any terminal, the first line tells it your key again:

. '%[2]s'
curl -s $FAKE/write -d number=491700000002 -d to=491700000001 -d text='Hello, Kurir!'
curl -s $API/sessions/$SESSION/send -H "X-Api-Key: $KEY" -H 'Content-Type: application/json' -d '{"to":"491700000002","message":"Hello from Kurir!"}'
curl -s $API/sessions/$SESSION/messages -H "X-Api-Key: $KEY"
curl -s $FAKE/shown -d number=491700000002

  Ctrl-C stops everything, and the fake forgets who was linked: at the next start, such sessions are logged out.

`
