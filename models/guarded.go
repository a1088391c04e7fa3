package models

// A lane is guarded if its session is paced, capped or cooling down, or if something in it has priority. claimGuarded is claimSQL
// with all of that; to the others it would only cost time. $1 is the lane, $2 the holder's generation, $3 how many.
//
// Where it asks for chats, it reads the lane from its beginning, since there is no index of what waits by chat: with
// 100,000 messages waiting that takes tens of milliseconds, and happens while something of high priority waits, while the
// network asks for a pause, and when a chat is begun.
//
//	class 0: what an earlier generation or attempt left unsettled, by seq
//	class 1: what has priority, and what is due before it in its chat: by chat, in the order of the first with priority
//	class 2: the rest by seq. In a cool-down only answers; what is parked for the caps on new chats one at a time
const claimGuarded = `
WITH lane AS MATERIALIZED (` + openLane + `
), unsettled AS (
	SELECT c.id, c.chat, c.seq, 0 AS class, c.seq AS rank, false AS parked FROM messages c JOIN lane ON c.session_uid = lane.id
	WHERE ` + unsettledMessage + ` AND (NOT lane.cooling OR ` + warmChat + `)
	ORDER BY c.seq LIMIT $3
), tops AS MATERIALIZED (
	SELECT chat, max(seq) AS top, min(seq) AS rank FROM (
		SELECT c.chat, c.seq FROM messages c JOIN lane ON c.session_uid = lane.id
		WHERE ` + freeMessage + ` AND c.priority > 0 AND (NOT lane.cooling OR ` + warmChat + `) ORDER BY c.seq LIMIT 500) high
	GROUP BY chat
), near AS MATERIALIZED (
	SELECT c.id, c.chat, c.seq FROM messages c WHERE ` + freeMessage + ` AND c.seq <= (SELECT max(top) FROM tops)
	  AND coalesce(c.chat IN (SELECT chat FROM tops), false)
), urgent AS (
	SELECT c.id, c.chat, c.seq, 1 AS class, t.rank, false AS parked FROM near c JOIN tops t ON t.chat = c.chat AND c.seq <= t.top
	WHERE NOT ` + blockedMessage + ` ORDER BY t.rank, c.seq LIMIT $3
), normal AS (
	SELECT c.id, c.chat, c.seq, 2 AS class, c.seq AS rank, false AS parked FROM messages c JOIN lane ON c.session_uid = lane.id AND NOT lane.cooling
	WHERE ` + freeMessage + ` AND NOT ` + blockedMessage + ` ORDER BY c.seq LIMIT $3
), replies AS (
	SELECT c.id, c.chat, c.seq, 2 AS class, c.seq AS rank, false AS parked FROM messages c JOIN lane ON c.session_uid = lane.id AND lane.cooling
	WHERE ` + freeMessage + ` AND ` + inWarmChat + ` AND NOT ` + blockedMessage + ` ORDER BY c.seq LIMIT $3
), stranger AS (
	SELECT f.id, f.chat, f.seq, CASE WHEN n.rush THEN 1 ELSE 2 END AS class, n.rank, true AS parked
	FROM (` + nextStranger + `) n CROSS JOIN LATERAL (` + firstParked + `) f
), pick AS MATERIALIZED (
	SELECT * FROM (SELECT DISTINCT ON (id) * FROM (
		SELECT * FROM unsettled UNION ALL SELECT * FROM urgent UNION ALL SELECT * FROM normal
		UNION ALL SELECT * FROM replies UNION ALL SELECT * FROM stranger) a ORDER BY id, class, rank) c
	ORDER BY class, rank, seq LIMIT $3
)` + claimPicked

// Parts of it, with c for the message.
const (
	// openLane is the lane while it may be claimed from: its session is connected, and neither pace nor network makes it wait.
	openLane = `
	SELECT l.id, coalesce(s.cooldown_until > now(), false) AS cooling, coalesce(p.new_chat_at <= now(), true) AS opening
	FROM lanes l JOIN sessions s ON s.uid = l.id LEFT JOIN paces p ON p.session_uid = l.id
	WHERE l.id = $1 AND l.generation = $2 AND ` + connectedLane + ` AND coalesce(p.next_send_at <= now(), true)
	  AND NOT coalesce(s.cooldown_until > now() AND s.cooldown_replies_at > now(), false)`

	// unsettledMessage was claimed before, and is to be asked for again now. One that backs off blocks the later ones of its chat.
	unsettledMessage = `c.session_uid = $1 AND c.status = 'SENDING' AND (c.next_attempt_at <= now() OR c.next_attempt_at IS NULL AND c.generation < $2) AND NOT ` + behindDoubt

	behindDoubt = `EXISTS (SELECT 1 FROM messages b WHERE b.session_uid = $1 AND b.status = 'SENDING' AND b.chat = c.chat
		AND b.seq < c.seq AND b.next_attempt_at > now() OFFSET 0)`

	// freeMessage was never tried, is due and not held.
	freeMessage = `c.session_uid = $1 AND c.status = 'PENDING' AND c.next_attempt_at IS NULL AND (c.send_at IS NULL OR c.send_at <= now())`

	// blockedMessage has one in its chat that backs off, or an earlier one that is due and held. The first condition of the
	// inner query is that of the index messages_held.
	blockedMessage = `EXISTS (SELECT 1 FROM messages b WHERE b.session_uid = $1 AND b.chat = c.chat
		AND b.next_attempt_at IS NOT NULL AND b.status IN ('PENDING', 'SENDING')
		AND CASE b.status WHEN 'SENDING' THEN b.next_attempt_at > now() ELSE b.seq < c.seq AND coalesce(b.send_at <= now(), true) END OFFSET 0)`

	// warmChat says that somebody in the chat of c wrote within pacing.WarmFor. inWarmChat says the same, for statements that go
	// through many messages: the COALESCE has PostgreSQL read the warm chats once and hash them.
	warmChat = `EXISTS (SELECT 1 FROM chats h WHERE h.session_uid = $1 AND h.chat = c.chat AND h.last_received_at > now() - interval '24 hours')`

	inWarmChat = `coalesce(c.chat IN (SELECT h.chat FROM chats h WHERE h.session_uid = $1 AND h.last_received_at > now() - interval '24 hours'), false)`

	// parkedMessage waits for the caps on new chats.
	parkedMessage = `c.session_uid = $1 AND c.status = 'PENDING' AND c.waiting_for = 'new_chat_limit'`

	// nextStranger is the chat that is begun next: of the first message by priority, then seq, which nothing but what is parked with
	// it goes before.
	nextStranger = `
	SELECT c.chat, c.priority > 0 AS rush, c.seq AS rank FROM messages c JOIN lane ON c.session_uid = lane.id AND lane.opening AND NOT lane.cooling
	WHERE ` + parkedMessage + `
	  AND NOT EXISTS (SELECT 1 FROM messages b WHERE b.session_uid = $1 AND b.chat = c.chat
		AND b.next_attempt_at IS NOT NULL AND b.status IN ('PENDING', 'SENDING')
		AND CASE b.status WHEN 'SENDING' THEN b.next_attempt_at > now()
			ELSE b.seq < c.seq AND b.waiting_for IS DISTINCT FROM 'new_chat_limit' AND coalesce(b.send_at <= now(), true) END OFFSET 0)
	  AND NOT EXISTS (SELECT 1 FROM messages e WHERE e.session_uid = $1 AND e.status = 'PENDING' AND e.next_attempt_at IS NULL
		AND e.seq < c.seq AND e.chat = c.chat AND (e.send_at IS NULL OR e.send_at <= now()) OFFSET 0)
	ORDER BY c.priority DESC, c.seq LIMIT 1`

	// firstParked is the first message of the chat n.
	firstParked = `
	SELECT b.id, b.chat, b.seq FROM messages b WHERE b.session_uid = $1 AND b.chat = n.chat AND b.next_attempt_at IS NOT NULL
		AND b.status = 'PENDING' AND b.waiting_for = 'new_chat_limit' ORDER BY b.seq LIMIT 1`
)

// dueGuarded is dueOf for a guarded lane. Whatever waits in it, waits for the gate, which pace and network set; beyond that, what
// a claim would find now is due now, and the rest when its own time comes.
const dueGuarded = `(
WITH gate AS MATERIALIZED (
	SELECT l.id, coalesce(s.cooldown_until > now(), false) AS cooling, s.cooldown_until AS cool,
		greatest(now(), p.next_send_at, CASE WHEN s.cooldown_until > now() THEN s.cooldown_replies_at END) AS at,
		greatest(p.new_chat_at, now()) AS opens, true AS opening
	FROM lanes l JOIN sessions s ON s.uid = l.id LEFT JOIN paces p ON p.session_uid = l.id WHERE l.id = $1
), lane AS (SELECT * FROM gate)
SELECT min(greatest(x.due, gate.at)) FROM gate, LATERAL (
	SELECT now() AS due WHERE NOT gate.cooling AND EXISTS (SELECT 1 FROM messages c WHERE ` + freeMessage + ` AND NOT ` + blockedMessage + `)
	UNION ALL
	SELECT now() WHERE gate.cooling AND EXISTS (SELECT 1 FROM messages c WHERE ` + freeMessage + ` AND ` + inWarmChat + ` AND NOT ` + blockedMessage + `)
	UNION ALL
	SELECT now() WHERE EXISTS (SELECT 1 FROM messages c WHERE c.session_uid = $1 AND c.status = 'SENDING' AND coalesce(c.next_attempt_at <= now(), true)
		AND NOT ` + behindDoubt + ` AND (NOT gate.cooling OR ` + warmChat + `))
	UNION ALL
	SELECT gate.cool WHERE gate.cooling AND EXISTS (SELECT 1 FROM messages c WHERE c.session_uid = $1 AND c.status = 'SENDING'
		UNION ALL SELECT 1 FROM messages c WHERE c.session_uid = $1 AND c.status = 'PENDING' AND c.next_attempt_at IS NULL
		UNION ALL SELECT 1 FROM messages c WHERE ` + parkedMessage + `)
	UNION ALL
	SELECT min(c.next_attempt_at) FROM messages c WHERE c.session_uid = $1 AND c.status = 'SENDING' AND c.next_attempt_at > now()
	UNION ALL
	SELECT min(c.send_at) FROM messages c WHERE c.session_uid = $1 AND c.status = 'PENDING' AND c.send_at > now() AND c.next_attempt_at IS NULL
	UNION ALL
	SELECT gate.opens FROM (` + nextStranger + `) n
) x WHERE x.due IS NOT NULL)`
