"""Everything buffettsbot decides, as a library.

`cli` and `http` each open an `App`, call one use case in `core`, and show what it returns; use
cases
decide inside short database transactions and queue what the world must be told; only `deliver`
talks
to Telegram, and only the chain sources talk to TRON, and never inside a transaction.

From the bottom up, and imports point only downwards (import-linter keeps it so):

* `errors`, `money`, `tron`: what can go wrong, micro-USDT, TRON's addresses and hashes
* `chain`, `verification`: what a source says of a transaction, and what that is worth
* `models`, `db`, `migrations`: the tables, and the two databases they live in
* `plans`, `users`, `passes`, `outbox`: what is on sale, who is known, what ran, what must be told
* `memberships`, `payments`, `alarms`: who is in, the ledger, and word of what failed
* `settlement`, `claims`: a transaction hash becomes a membership, now or later
* `wire`, `service`, `tronscan`, `trongrid`: how TRON is asked
* `settings`, `sources`, `app`: what the owner chose, and all of it put together
"""
