# What `fairlane nodes probe` runs in the build container, with the image's own tools. The arguments are the engine's
# socket (empty: none), the KiB of disk that a build needs, and the hosts to reach. Each line that begins with
# `fairlane-probe` is a result: what was checked, `ok`, `bad` or `unknown`, and a detail.
socket=$1 need=$2
shift 2
say() { printf 'fairlane-probe %s %s %s\n' "$1" "$2" "$3"; }
has() { command -v "$1" > /dev/null 2>&1; }
last() { printf '%s\n' "$1" | tail -n 1; }
free() { set -- $(df -Pk /tmp 2> /dev/null | tail -n 1); echo "${4:-}"; }

kib=$(free)
case $kib in
  '' | *[!0-9]*) say disk unknown 'df does not say how much is free' ;;
  *) if [ "$kib" -lt "$need" ]; then say disk bad "$kib"; else say disk ok "$kib"; fi ;;
esac
file=/tmp/fairlane-probe-$$
if why=$(dd if=/dev/zero of="$file" bs=1048576 count=64 2>&1); then say write ok; else say write bad "$(last "$why")"; fi
rm -f "$file"

ping='
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(10)
s.connect(sys.argv[1])
s.sendall(b"GET /_ping HTTP/1.0\r\nHost: localhost\r\n\r\n")
line = s.recv(4096).decode(errors="replace").split("\r\n")[0]
print(line)
sys.exit(" 200 " not in line + " ")
'
if [ -n "$socket" ]; then
  if [ ! -S "$socket" ]; then
    say socket bad 'there is no socket'
  elif has python3; then
    if why=$(python3 -c "$ping" "$socket" 2>&1); then say socket ok; else say socket bad "$(last "$why")"; fi
  elif has curl; then
    if why=$(curl -fsS -m 10 -o /dev/null --unix-socket "$socket" http://localhost/_ping 2>&1); then say socket ok; else say socket bad "$(last "$why")"; fi
  else
    say socket unknown 'the build image has neither python3 nor curl'
  fi
fi

reach='
import socket, sys
socket.create_connection((sys.argv[1].strip("[]"), int(sys.argv[2])), 10).close()
'
for host in "$@"; do
  name=${host%:*} port=${host##*:}
  if has python3; then
    if why=$(python3 -c "$reach" "$name" "$port" 2>&1); then say network ok "$host"; else say network bad "$host $(last "$why")"; fi
  elif has nc; then
    if why=$(nc -z -w 10 "$name" "$port" 2>&1); then say network ok "$host"; else say network bad "$host $(last "$why")"; fi
  else
    say network unknown "$host the build image has neither python3 nor nc"
  fi
done
exit 0
