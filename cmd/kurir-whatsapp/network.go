//go:build !wafake

package main

import "net/http"

// network is the way to WhatsApp, nil for the usual one, and what `up` prints of it. See wafake.go for the other one.
func network() (way *http.Transport, hello string) { return nil, welcome }

const welcome = `
  Kurir is running, with a worker that speaks to WhatsApp. What you send REACHES PEOPLE, and may get a number banned:
  read docs/whatsapp.md first.

  Documentation   %[1]s/docs

  1. Link a phone. Copy and paste this into another terminal; the QR code appears here:

API=%[1]s/api/v1
SESSION=phone-$RANDOM
KEY=$(curl -s $API/auth/register -H 'Content-Type: application/json' \
  -d '{"email":"me-'$RANDOM'@example.com","password":"correct horse battery"}' | sed -n 's/.*"apiKey":"\([^"]*\)".*/\1/p')
(umask 077; echo "API=$API SESSION=$SESSION KEY=$KEY" > '%[2]s')
curl -s $API/sessions -H "X-Api-Key: $KEY" -H 'Content-Type: application/json' -d '{"name":"My phone","sessionId":"'$SESSION'"}'

  2. When it says "connected" here, write to somebody who expects it, and see what came in since. Later, in any terminal,
     the first line tells it your key again:

. '%[2]s'
TO=                # a number with its country code, in digits
curl -s $API/sessions/$SESSION/send -H "X-Api-Key: $KEY" -H 'Content-Type: application/json' -d '{"to":"'$TO'","message":"Hello from Kurir!"}'
curl -s $API/sessions/$SESSION/messages -H "X-Api-Key: $KEY"

  Ctrl-C stops everything; the next start finds the linked devices again.

`
