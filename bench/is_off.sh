#!/bin/sh
# Exits 0 once the host is off, as its laboratory says: is_off.sh HOST
test "$("$(dirname "$0")/../bin/lab" power-status "$1")" = off
