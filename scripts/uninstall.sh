#!/usr/bin/env bash
# Take buffettsbot off this host. Settings and data stay, unless --purge (which asks, but for --yes).
set -euo pipefail

purge='' yes=''
for argument in "$@"; do
  case $argument in
    --purge) purge=yes ;;
    --yes) yes=yes ;;
    *) echo "Usage: $0 [--purge [--yes]]" >&2; exit 2 ;;
  esac
done
[ "$(id -u)" = 0 ] || { echo "error: This has to be run as root: sudo $0" >&2; exit 4; }

settings=/etc/buffettsbot/buffettsbot.env
peer_database=''
if [ -n "$purge" ]; then
  # Only the database that install.sh --postgres made on this host.
  ! grep -qsF "buffettsbot@/buffettsbot?host=/var/run/postgresql" "$settings" || peer_database=yes
  if [ -z "$yes" ]; then
    read -r -p "Remove the settings, every member, every payment, every backup, for ever? [y/N] " answer || true
    case ${answer:-} in y | Y | yes) ;; *) echo "Nothing was changed." >&2; exit 4 ;; esac
  fi
fi

timers=(buffettsbot-{settle,deliver,remind,expire,backup}.timer)
systemctl disable --quiet --now "${timers[@]}" buffettsbot-http.service 2>/dev/null || true
systemctl stop buffettsbot-backup.service 'buffettsbot-pass@*.service' 'buffettsbot-failed@*.service' 2>/dev/null || true
[ -z "$purge" ] || systemctl clean --what=state "${timers[@]}" 2>/dev/null || true
for unit in /opt/buffettsbot/releases/*/systemd/buffettsbot-*; do
  rm -rf "/usr/local/lib/systemd/system/${unit##*/}" "/usr/local/lib/systemd/system/${unit##*/}.d"
done
rm -rf /opt/buffettsbot
rm -f /usr/local/bin/buffettsbot /usr/local/lib/{sysusers,tmpfiles}.d/buffettsbot.conf \
  /usr/local/share/bash-completion/completions/buffettsbot \
  /usr/local/share/zsh/site-functions/_buffettsbot \
  /usr/local/share/fish/vendor_completions.d/buffettsbot.fish \
  /usr/local/share/man/man1/buffettsbot.1
systemctl daemon-reload
systemctl reset-failed 'buffettsbot-*' 2>/dev/null || true

if [ -z "$purge" ]; then
  echo "buffettsbot is gone. Settings and data are still in /etc/buffettsbot and /var/lib/buffettsbot;" >&2
  echo "install.sh takes them up again, and $0 --purge removes them." >&2
  exit 0
fi
if [ -n "$peer_database" ] && command -v psql >/dev/null; then
  (cd / && runuser -u postgres -- dropdb --if-exists buffettsbot && runuser -u postgres -- dropuser --if-exists buffettsbot)
fi
rm -rf /etc/buffettsbot /var/lib/buffettsbot
! getent passwd buffettsbot >/dev/null || userdel buffettsbot
! getent group buffettsbot >/dev/null || groupdel buffettsbot
echo "buffettsbot is gone, with its settings and its data." >&2
