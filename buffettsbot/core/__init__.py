"""Everything buffettsbot decides, as a library.

`cli` and `http` each open an `App`, call one use case in `core`, and show what it returns; use
cases decide inside short database transactions and queue what the world must be told; only
`telegram` talks to Telegram, and only `chain` to TRON, and never inside a transaction.

Twelve rooms and six files at the door; a room is what one changes together. From the bottom up, and
imports point only downwards (import-linter keeps it so):

* `errors`, `money`, `hashes`, `wire`: what can go wrong, micro-USDT, a transaction hash in its one
  spelling, HTTP to the world
* `chain`: what a blockchain says of a transaction, and what that is worth
* `storage`: the two databases, their tables, and the small books that every room keeps
* `settings`: what the owner chose, and how it is written down
* `messages`: what people read
* `outbox`: what is to be told, queued in the transaction that decided it
* `members`: who is known, who is in, until when
* `offers`: what is on sale, and at what price
* `ledger`: what was paid, and what came of it
* `telegram`: the bot, the group, and the speed of both
* `app`: the settings, the database, the clock and those outside, put together
* `backup`: all of it in a file, and back
* `from_django`: the original moves in
* `health`: is all well, and what to do where it is not
"""
