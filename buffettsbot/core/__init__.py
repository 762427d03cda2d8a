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
* `audit`: who changed what by hand
* `plans`, `users`, `passes`, `outbox`: what is on sale, who is known, what ran, what must be told
* `digests`, `sweeps`, `reminders`, `expiry`: what falls due with time, and what admins hear of it
* `memberships`, `payments`, `statistics`: who is in, the ledger, and what both come to
* `alarms`: word of what failed, to the staff
* `settlement`, `claims`: a transaction hash becomes a membership, now or later
* `grants`: a membership without a payment, or ended before its time
* `django_import`, and what it is made of: the original system moves in
* `wire`, `service`, `tronscan`, `trongrid`: how TRON is asked
* `telegram`, `group`, `pacing`, `effects`, `delivery`: how Telegram is told, and how fast
* `joining`, `belonging`, `group_audit`: who is let into the group, and who is there
* `invariants`: the promises, as questions to the data
* `archives`, `sqlite_dump`, `postgresql_dump`, `backups`: all of it in a file, and back again
* `settings`, `sources`, `app`: what the owner chose, and all of it put together
* `envfile`, `setup`: how what the owner chooses is written down
* `findings`, `…_check`, `…_checks`, `doctor`: is everything right, and what to do where it is not
"""
