#!/usr/bin/env bash
# Install buffettsbot on this host, or upgrade it: as root, on Debian 12 or Ubuntu 24.04. Safe to
# repeat. An upgrade installs, stops, backs up, migrates, starts; where a step fails, the old
# version comes back with its data.
#
#   scripts/install.sh                  settings from the environment (BUFFETTSBOT_...), or asked
#   scripts/install.sh --env FILE       settings from a file: the original system's .env as it is
#   scripts/install.sh --postgres       with a PostgreSQL on this host in place of an SQLite file
set -euo pipefail

source_dir=$(cd "$(dirname "$0")/.." && pwd)
base=/opt/buffettsbot
current=$base/current
settings=/etc/buffettsbot/buffettsbot.env
state=/var/lib/buffettsbot
units=/usr/local/lib/systemd/system
timers=(settle deliver remind expire backup)
peer_url='postgresql://buffettsbot@/buffettsbot?host=/var/run/postgresql'

env_file='' postgres='' old='' release='' backup='' stage=preparing

say() { printf '%s\n' "$*" >&2 || true; } # a terminal that is gone stops nothing
step() { say ''; say "== $*"; }
die() { say "error: $*"; exit 4; }

usage() { # [EXIT_CODE]
  sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
  exit "${1:-2}"
}

arguments() {
  while [ $# -gt 0 ]; do
    case $1 in
      --env) [ $# -ge 2 ] || usage; env_file=$2; shift 2 ;;
      --postgres) postgres=yes; shift ;;
      -h | --help) usage 0 ;;
      *) usage ;;
    esac
  done
  [ -z "$env_file" ] || [ -r "$env_file" ] || die "$env_file cannot be read."
}

fit() {
  [ "$(id -u)" = 0 ] || die "This has to be run as root: sudo $0"
  command -v apt-get >/dev/null || die "This is no Debian and no Ubuntu."
  [ -d /run/systemd/system ] || die "systemd does not run here. Without it: buffettsbot schedule"
}

# --- the system

packages() {
  local wanted=(python3 python3-venv tzdata) missing=() package
  [ -z "$postgres" ] || wanted+=(postgresql)
  ! on_postgresql || wanted+=(postgresql-client) # pg_dump, for the backups
  for package in "${wanted[@]}"; do
    dpkg-query --show --showformat='${db:Status-Status}\n' "$package" 2>/dev/null |
      grep -qx installed || missing+=("$package")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    step "Installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  fi
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "Python 3.11 or newer is needed."
}

on_postgresql() {
  [[ ${chosen[BUFFETTSBOT_DATABASE_URL]:-} == postgres* ]] ||
    grep -qsE "^[[:space:]]*(export )?BUFFETTSBOT_DATABASE_URL=['\"]?postgres" "$settings" ${env_file:+"$env_file"}
}

account() {
  install -D -m 644 "$source_dir/systemd/buffettsbot.sysusers" /usr/local/lib/sysusers.d/buffettsbot.conf
  install -D -m 644 "$source_dir/systemd/buffettsbot.tmpfiles" /usr/local/lib/tmpfiles.d/buffettsbot.conf
  systemd-sysusers /usr/local/lib/sysusers.d/buffettsbot.conf
  systemd-tmpfiles --create /usr/local/lib/tmpfiles.d/buffettsbot.conf
}

postgresql() {
  [ -n "$postgres" ] || return 0
  step "Preparing PostgreSQL: role and database buffettsbot, no password (peer authentication)"
  as_postgres() { (cd / && runuser -u postgres -- "$@"); }
  as_postgres psql -qtAc "SELECT 1 FROM pg_roles WHERE rolname = 'buffettsbot'" | grep -q 1 ||
    as_postgres createuser buffettsbot
  as_postgres psql -qtAc "SELECT 1 FROM pg_database WHERE datname = 'buffettsbot'" | grep -q 1 ||
    as_postgres createdb --owner buffettsbot --encoding UTF8 --template template0 buffettsbot
}

# --- settings: the environment wins over the file, the file over questions

declare -A chosen

choose() { [ -z "$2" ] || chosen[$1]=$2; }

from_environment() { # and out of it: from here on, the file alone counts, as it does for the services
  local name
  for name in $(compgen -e | grep '^BUFFETTSBOT_'); do
    [ -f "$settings" ] || [ "$name" = BUFFETTSBOT_ENV_FILE ] || choose "$name" "${!name}"
    unset "$name"
  done
}

in_file() { [ -n "$env_file" ] && grep -qE "^[[:space:]]*(export )?($1)=." "$env_file"; }

known() { [ -n "${chosen[BUFFETTSBOT_$1]:-}" ] || in_file "BUFFETTSBOT_$1${2:+|$2}"; }

enough() { # what can be said before anything is done
  local name
  if [ -f "$settings" ]; then
    [ -z "$env_file" ] || say "The settings stay as they are in $settings; $env_file is not used."
    [ -z "$postgres" ] || on_postgresql ||
      die "$settings names no PostgreSQL. Back up, change BUFFETTSBOT_DATABASE_URL there, then try again."
    return 0
  fi
  for name in "${!chosen[@]}"; do
    [[ ${chosen[$name]} != *$'\n'* ]] || die "$name is more than one line."
  done
  known WALLET STAS_TRC20_WALLET_ADDRESS || [ -t 0 ] ||
    die "No wallet is set: give BUFFETTSBOT_WALLET in the environment, or --env FILE."
}

configure() {
  if [ -f "$settings" ]; then
    well_formed "$settings" "$settings"
    return 0
  fi
  step "Settings"
  [ -z "$postgres" ] || choose BUFFETTSBOT_DATABASE_URL "$peer_url"
  if ! known DATABASE_URL '' && in_file SQL_DATABASE; then
    say "A database of its own: the original's (SQL_...) stays untouched. To bring its members over:"
    say "  buffettsbot db import-django URL"
    choose BUFFETTSBOT_DATABASE_URL "sqlite:///$state/buffettsbot.db"
  fi
  draft
  well_formed "$release/draft.env" "the environment${env_file:+ or $env_file}"
  ask WALLET STAS_TRC20_WALLET_ADDRESS "TRON address that receives the USDT"
  ask TELEGRAM_TOKEN TELEGRAM_BOT_TOKEN "Telegram bot's token (not shown)" hidden
  ask GROUP_ID '' "Id of the private group (empty: you add and remove people by hand)"
  ask TIMEZONE '' "Time zone, such as Europe/Berlin (empty: UTC)"
  ask LANGUAGE '' "Language of the messages, en or ru (empty: en)"
  known API_TOKEN '' || choose BUFFETTSBOT_API_TOKEN "$(head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=')"
  known TELEGRAM_TOKEN TELEGRAM_BOT_TOKEN ||
    say "No Telegram token: nobody is told anything until BUFFETTSBOT_TELEGRAM_TOKEN is set."
  draft
}

well_formed() { # FILE PLACE: this version understands every setting in the file; it is to be fixed in PLACE
  "$release/bin/python" -I -c '
import sys
from pathlib import Path
from buffettsbot.core.settings.places import PREFIX
from buffettsbot.core.settings.settings import Settings, load_settings
for name, why in load_settings(Path(sys.argv[1])).problems(*Settings.model_fields).items():
    if why.startswith("is malformed"):
        print(f"{PREFIX}{name.upper()} {why}")' "$1" | {
    ! grep . >&2
  } || die "Fix this in $2, then run the same again."
}

ask() { # NAME SEED_NAME QUESTION [hidden]
  local answer='' wrong
  known "$1" "$2" && return
  [ -t 0 ] || return 0
  while true; do
    read -r -p "$3: " ${4:+-s} answer || die "Nobody answered."
    [ -z "${4:-}" ] || say ''
    wrong=$(wrong_with "$1" "$answer")
    [ -n "$wrong" ] || break
    say "$wrong"
  done
  choose "BUFFETTSBOT_$1" "$answer"
}

wrong_with() { # NAME VALUE
  if [ -z "$2" ]; then
    [ "$1" != WALLET ] || echo "Without a wallet nothing can be sold."
    return 0
  fi
  # Not as an argument, which every user of this host could read.
  VALUE=$2 "$release/bin/python" -I -c '
import os, sys
from buffettsbot.core.settings.settings import malformed
for why in malformed({sys.argv[1]: os.environ["VALUE"]}).values():
    print(why.removeprefix("is malformed: "))' "${1,,}"
}

draft() { # the settings as they are known by now, beside the release
  local name value
  (
    umask 077
    {
      echo "# buffettsbot's settings; docs/settings.md explains them all."
      echo "# After a change: systemctl restart buffettsbot-http; after one of the time zone: install.sh again."
      [ -z "$env_file" ] || { cat "$env_file" && echo; }
      for name in $(printf '%s\n' "${!chosen[@]}" | sort); do
        value=${chosen[$name]//\\/\\\\}
        printf "%s='%s'\n" "$name" "${value//\'/\\\'}"
      done
    } >"$release/draft.env"
  )
}

write_settings() {
  [ -f "$release/draft.env" ] || return 0
  install --owner root --group buffettsbot --mode 640 "$release/draft.env" "$settings.new"
  mv "$settings.new" "$settings"
  rm "$release/draft.env"
  say "Written to $settings"
}

# --- one release: a directory of its own, made while the old one still runs

build() {
  local version building
  version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$source_dir/buffettsbot/__init__.py")
  release=$base/releases/$version-$(date -u +%Y%m%dT%H%M%SZ)
  step "Installing buffettsbot $version into $release"
  install -d -m 755 "$base" "$base/releases"
  python3 -m venv "$release"
  "$release/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --only-binary :all: \
    --require-hashes --requirement "$source_dir/requirements.lock"
  building=$(mktemp -d)
  cp -r "$source_dir"/{buffettsbot,pyproject.toml,README.md} "$building/"
  find "$building" -name __pycache__ -prune -exec rm -rf {} +
  "$release/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps \
    --no-index --no-build-isolation "$building"
  rm -rf "$building"
  install -d "$release/systemd"
  cp "$source_dir"/systemd/* "$release/systemd/"
  install -m 755 "$source_dir/scripts/uninstall.sh" "$release/"
  [ ! -f "$source_dir/docs/buffettsbot.1" ] || install -m 644 "$source_dir/docs/buffettsbot.1" "$release/"
  chmod -R u=rwX,go=rX "$release"
}

run() { # RELEASE ARGUMENTS...: its Python, as the services' user
  local from=$1
  shift
  (cd / && umask 0007 && setpriv --reuid=buffettsbot --regid=buffettsbot --init-groups \
    env HOME="$state" "$from/bin/python" -I "$@")
}

program() { run "$1" -m buffettsbot "${@:2}"; }

form_of_data() { # the version of the data's form, as this release sees it
  { program "$1" db status --json 2>/dev/null || true; } | sed -n 's/.*"version": "\([^"]*\)".*/\1/p'
}

stop() {
  local names=("${timers[@]/#/buffettsbot-}")
  systemctl stop "${names[@]/%/.timer}" buffettsbot-http.service buffettsbot-backup.service 'buffettsbot-pass@*.service' 2>/dev/null || true
}

back_up() {
  [ -n "$old" ] && [ -n "$(form_of_data "$old")" ] || return 0
  backup=$state/backups/before-upgrade-$(date -u +%Y%m%dT%H%M%SZ).backup
  step "Backing up to $backup"
  program "$old" db backup "$backup"
  # Three of these are enough; the nightly ones are counted for themselves.
  find "$state/backups" -maxdepth 1 -name 'before-upgrade-*.backup' | sort | head -n -3 | xargs -r rm --
}

remove_units() {
  local one
  for one in "$base"/releases/*/systemd/buffettsbot-*; do
    rm -rf "${units:?}/${one##*/}" "${units:?}/${one##*/}.d"
  done
}

activate() { # RELEASE: its units, its completions, and `current`
  local from=$1 unit zone systemd
  ln -sfn "$from" "$current.new"
  mv -T "$current.new" "$current"
  remove_units
  install -d "$units"
  install -m 644 "$from"/systemd/buffettsbot-*.{service,timer} "$units/"
  systemd=$(systemctl --version | sed 's/^systemd \([0-9]*\).*/\1/;q')
  for unit in "$units"/buffettsbot-*.service; do
    install -D -m 644 "$from/systemd/hardening.conf" "$unit.d/hardening.conf"
    # From 254 on, systemd calls what it is about to try again a failure, too; older ones do not know
    # the word against it. Not for the service, whose first start is to fail at once.
    if [ "$systemd" -ge 254 ] && grep -qx Type=oneshot "$unit"; then
      printf '# What is tried again alarms nobody.\n[Service]\nRestartMode=direct\n' >"$unit.d/restart.conf"
    fi
  done
  zone=$(run "$from" -c '
try:
    from buffettsbot.core.settings.settings import load_settings
except ImportError:  # on the way back to a release from before the rooms
    from buffettsbot.core.settings import load_settings
print(load_settings().timezone.key)')
  for unit in remind expire; do
    install -d "$units/buffettsbot-$unit.timer.d"
    printf '# BUFFETTSBOT_TIMEZONE, put here by install.sh.\n[Timer]\nOnCalendar=\n%s\n%s\n' \
      "OnCalendar=*-*-* 00:00:00 $zone" "OnCalendar=*-*-* 01:00:00 $zone" \
      >"$units/buffettsbot-$unit.timer.d/zone.conf"
  done
  systemctl daemon-reload
  launcher
  completions "$from"
}

launcher() {
  cat >/usr/local/bin/buffettsbot.new <<'EOF'
#!/bin/sh
# buffettsbot, run by root as its own user, so that what it writes stays readable for the services;
# by anyone else as they are (the group buffettsbot may read the settings and share an SQLite file).
umask 0007
if [ "$(id -u)" = 0 ]; then
  exec setpriv --reuid=buffettsbot --regid=buffettsbot --init-groups env HOME=/var/lib/buffettsbot \
    /opt/buffettsbot/current/bin/python -I -m buffettsbot "$@"
fi
exec /opt/buffettsbot/current/bin/python -I -m buffettsbot "$@"
EOF
  chmod 755 /usr/local/bin/buffettsbot.new
  mv /usr/local/bin/buffettsbot.new /usr/local/bin/buffettsbot
}

completions() { # RELEASE
  local shell place
  for shell in bash:bash-completion/completions/buffettsbot zsh:zsh/site-functions/_buffettsbot \
    fish:fish/vendor_completions.d/buffettsbot.fish; do
    place=/usr/local/share/${shell#*:}
    install -d "$(dirname "$place")"
    # zsh wants #compdef in the first line, where typer leaves an empty one.
    (cd / && _BUFFETTSBOT_COMPLETE=source_${shell%%:*} "$1/bin/buffettsbot" | sed '/./,$!d' >"$place")
  done
  # zsh loads the file at the first TAB, which is to be answered, too.
  # shellcheck disable=SC2016
  echo '_buffettsbot_completion "$@"' >>/usr/local/share/zsh/site-functions/_buffettsbot
  [ ! -f "$1/buffettsbot.1" ] || install -D -m 644 "$1/buffettsbot.1" /usr/local/share/man/man1/buffettsbot.1
}

migrate() {
  step "Bringing the data to this version's form"
  program "$release" db upgrade
  # SQLite makes its file without write access for the group.
  [ ! -f "$state/buffettsbot.db" ] || chmod 660 "$state/buffettsbot.db"
}

start() {
  local names=("${timers[@]/#/buffettsbot-}")
  step "Starting"
  systemctl reset-failed 'buffettsbot-*' 2>/dev/null || true
  systemctl enable --quiet buffettsbot-http.service "${names[@]/%/.timer}"
  systemctl start buffettsbot-http.service
  systemctl start "${names[@]/%/.timer}"
}

clean() {
  local one
  for one in "$base"/releases/*; do
    [ "$one" = "$release" ] || [ "$one" = "$old" ] || rm -rf "$one"
  done
}

# --- what to do when a step failed

finished() {
  local code=$? went
  trap - EXIT
  [ "$code" != 0 ] || exit 0
  case $stage in
    preparing)
      [ -z "$release" ] || rm -rf "$release"
      rmdir "$base/releases" "$base" 2>/dev/null || true
      [ -z "$old" ] || say "Nothing was changed: ${old##*/} still runs."
      ;;
    changing)
      set +e # in a condition, a failing step would not end what follows
      (set -e; go_back)
      went=$?
      [ "$went" = 0 ] || say "Going back failed too. The data are in $state, the backup is ${backup:-none}."
      ;;
  esac
  exit "$code"
}

go_back() {
  step "A step failed"
  journalctl --quiet --no-pager --output=cat --lines=5 --unit=buffettsbot-http.service >&2 || true
  stop
  if [ -z "$old" ]; then
    say "The settings ($settings) and the data stay. Fix what is wrong, then run this again."
    return 0
  fi
  say "Going back to ${old##*/}"
  if [ -n "$backup" ] && [ "$(form_of_data "$old")" != "$form" ]; then
    program "$old" db restore --yes "$backup"
  fi
  activate "$old"
  start
  rm -rf "$release"
  say "${old##*/} runs again, with its data."
}

main() {
  arguments "$@"
  fit
  [ ! -L "$current" ] || old=$(readlink -f "$current")
  trap finished EXIT
  from_environment
  enough
  packages
  build
  configure
  account
  write_settings
  postgresql
  program "$release" --version >&2
  stage=changing
  [ -z "$old" ] || step "Stopping ${old##*/}"
  stop
  form=''
  [ -z "$old" ] || form=$(form_of_data "$old")
  back_up
  activate "$release"
  migrate
  start
  stage=running
  clean
  step "buffettsbot $(program "$release" --version | cut -d' ' -f2) runs"
  say "  systemctl list-timers 'buffettsbot-*'     what runs when"
  say "  buffettsbot users add CHAT_ID @NAME       then: buffettsbot users promote @NAME, to hear of everything"
  say "  buffettsbot plans create \"1 month\" 50     what is on sale"
  say "  buffettsbot doctor                        whether all is well"
  say "The bot finds the API at BUFFETTSBOT_BIND (127.0.0.1:8000 unless set) and its token in $settings."
}

main "$@"
