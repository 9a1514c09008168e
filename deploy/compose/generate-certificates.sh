#!/bin/sh
# Writes a certificate authority and a certificate of the brokers of compose.brokers.yaml into tls/ beside it: ca.pem, for
# clients, and broker.pem with the private key. Run it again to renew both. Needs openssl.
#
#   generate-certificates.sh [FOLDER [NAME-OR-ADDRESS ...]]
set -eu
folder=${1:-$(dirname "$0")/tls}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- kafka kafka-2 kafka-3 localhost 127.0.0.1
names=
for name in "$@"; do
    case $name in
        *[!0-9.]*) kind=DNS ;;
        *) kind=IP ;;
    esac
    names=${names:+$names,}$kind:$name
done
umask 077
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
new() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "$@" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }; }
new -x509 -days 3650 -subj "/CN=Meterfold Compose" -keyout "$work/ca.key" -out "$work/ca.pem"
new -subj "/CN=$1" -keyout "$work/broker.key" -out "$work/broker.csr"
echo "subjectAltName=$names" >"$work/names"
openssl x509 -req -in "$work/broker.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 3650 \
    -extfile "$work/names" -out "$work/broker.crt" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
cat "$work/broker.key" "$work/broker.crt" "$work/ca.pem" >"$folder/broker.pem"
cp "$work/ca.pem" "$folder/ca.pem"
# The users of the containers read these two files; the folder keeps other users of this machine out. The key of the
# authority is not kept: no one can issue another certificate.
chmod 644 "$folder/broker.pem" "$folder/ca.pem"
echo "$folder has the certificates"
