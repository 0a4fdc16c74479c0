"""The laws of a broker and of a result store, numbered.

Docstrings, tests, failures and the docs' tables cite them by number. The
sentences are the definition; `taskq.testing` puts each of them to the test.

A capability that is denied (`taskq.contract.capabilities`) changes what some of
them mean. Without `unique_ids` L15 says nothing, and after an `OutcomeUnknown`
L2, L13, L16 and L30 are true of each copy that there may be. Without
`timed_leases` the end of a lease, in L3 to L5, is when its holder takes it back,
or when a lease is over since a claim found that the holder's connection was lost.
"""

from __future__ import annotations

from typing import Final

BROKER_LAWS: Final = {
    "L1": "When send has returned, each message is scheduled, ready, processing or dead "
    "until it is acked, purged or dropped from the dead letters.",
    "L2": "A send that fails names every id as sent, unsent or unknown, and is right.",
    "L3": "Until a lease ends nobody else gets the message, unless its holder settles it.",
    "L4": "Once a message has been reclaimed, its old token settles and extends nothing: "
    "no state, counter, result or successor changes, and the delivery is returned as lost.",
    "L5": "A reserve returns messages whose lease has ended, the first time at once, "
    "from the second loss on after a backoff of 1, 2, 4 … 60 s.",
    "L6": "Nothing is delivered before its delay, eta or backoff is over.",
    "L7": "A reserve returns messages that have become due.",
    "L8": "A reserve serves its queues in the order given, and within a queue passes over "
    "no ready message of a higher priority.",
    "L9": "Messages of one producer, queue and priority that were sent without delay and "
    "never delivered come in the order they were sent.",
    "L10": "Lost and released messages come before all others of their priority; "
    "retried, scheduled and requeued ones join the tail when due.",
    "L11": "retries, losses, releases and run count exactly what their names say.",
    "L12": "At max_deliveries losses the message is dead with the code worker_lost.",
    "L13": "What was acked or purged never comes back; what is dead only by requeue_dead.",
    "L14": "Envelope, priority and limits arrive as sent; a retry's envelope replaces the old one.",
    "L15": "Sending an id again while its message or its stored result exists changes nothing.",
    "L16": "An ack's result and successors take effect with it in one step.",
    "L17": "Each settlement of a batch stands alone; a second one for the same delivery is lost.",
    "L18": "Whether a message has expired is decided in the claim; expired ones are delivered.",
    "L19": "Dead letters are listed oldest first with code, detail and counters; requeue_dead "
    "makes them ready with counters at zero, run one higher and their result forgotten.",
    "L20": "purge removes waiting messages of the states asked for, and never a leased one.",
    "L21": "stats counts every message in its state.",
    "L22": "locate tells the state of every message that exists, and leaves out the others.",
    "L23": "A worker is listed until ttl after its last heartbeat; a ttl of 0 takes it off.",
    "L24": "After interrupt, reserve returns [] within 100 ms and claims nothing; "
    "settling and extending go on.",
    "L25": "close may be called twice; afterwards every other method raises Closed.",
    "L26": "poll_schedule and recover_expired do for all queues what reserve does for its own.",
    "L27": "When all is concluded, purged and expired, only the documented fixed objects are left.",
    "L28": "A reserve that waits returns soon after a message for it is sent by anybody.",
    "L29": "expire_dead drops the dead letters older than asked, and no others.",
    "L30": "ConnectionFailed and ServerRefused mean that nothing has happened; after "
    "OutcomeUnknown each message was touched as asked or not at all.",
    "L31": "After a lost connection or a restart of the server a client goes on by itself: "
    "once the server answers again, one more call at most fails.",
}

RESULT_LAWS: Final = {
    "R1": "A stored record can be read by anybody, any number of times, until its ttl is over.",
    "R2": "A record never replaces one of a higher run.",
    "R3": "After its ttl a record is absent.",
    "R4": "wait returns as soon as anybody stores a final record, at the latest after timeout.",
    "R5": "A forgotten record is absent.",
    "R6": "fetch of many ids returns exactly those that have a record.",
    "R7": "close may be called twice; afterwards every other method raises Closed.",
    "R8": "Payload, state and run come back as stored.",
    "R9": "What L30 and L31 say of a broker is true of a result store.",
}

LAWS: Final = BROKER_LAWS | RESULT_LAWS
