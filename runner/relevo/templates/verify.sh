#!/bin/sh
# Checks a bundle of results offline, with sh, awk, sed, sort, comm, sha256sum and ssh-keygen. It changes nothing.
#
#   sh verify.sh [-k KEYS] [-a HEAD] [DIRECTORY]
#
#   -k KEYS   an allowed_signers file that you got another way than this bundle; without it that of the bundle
#   -a HEAD   a head that was kept elsewhere (an anchor); more than once is possible
#
# Exit codes: 0 everything is as it was written, 1 something is not and is named, 2 it could not be checked.
set -u
LC_ALL=C
export LC_ALL

usage() {
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

stop() {
    echo "Not checked: $1" >&2
    exit 2
}

found=0
say() {
    found=$((found + 1))
    echo "$1"
}

keys='' anchors=''
while getopts k:a:h option; do
    case $option in
        k) keys=$OPTARG ;;
        a) anchors="$anchors$OPTARG
" ;;
        *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# -le 1 ] || usage
bundle=${1:-$(dirname "$0")}
keys=${keys:-$bundle/allowed_signers}

for tool in awk sed sort comm ssh-keygen; do
    command -v "$tool" >/dev/null || stop "$tool is missing on this machine."
done
if command -v sha256sum >/dev/null; then
    digest() { sha256sum <"$1" | cut -c 1-64; }
elif command -v shasum >/dev/null; then
    digest() { shasum -a 256 <"$1" | cut -c 1-64; }
else
    stop "sha256sum is missing on this machine."
fi
[ -r "$keys" ] || stop "the keys $keys cannot be read."
[ -d "$bundle/chain" ] && [ -d "$bundle/records" ] || stop "$bundle is no bundle: it has no chain and records."
work=$(mktemp -d) || stop "no temporary directory can be made."
trap 'rm -rf "$work"' EXIT
trap 'exit 2' HUP INT TERM

# named FILE: the run or the statement of a file of this bundle.
named() {
    name=${1#*/}
    name=${name%.json}
}

# signed FILE SIGNATURE TIME: by a key that was believed at that time.
signed() {
    moment=$(printf '%s' "$3" | tr -d 'T:-' | cut -c 1-14)Z
    ssh-keygen -Y verify -q -f "$keys" -I relevo-controller -n dr-test -s "$2" -Overify-time="$moment" <"$1" >/dev/null 2>&1
}

# later TIME TIME: texts of this form sort as their times do.
later() {
    [ "$1" != "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort | tail -n 1)" = "$1" ]
}

# --- the chain ---
expected=1 records=0 statements=0 last=0 previous=$(printf '%064d' 0) store='' before='' readable=1 taken=0 said=0
: >"$work/members"
: >"$work/digests"
for file in "$bundle"/chain/*.entry; do
    [ -f "$file" ] || continue
    name=${file##*/}
    number=$(printf '%s' "${name%.entry}" | sed -n 's/^0*\([1-9][0-9]*\)$/\1/p')
    if [ -z "$number" ]; then
        say "$name: put in: it is no number of an entry."
        continue
    fi
    gap=0
    if [ "$number" -ne "$expected" ]; then
        gap=1
        say "entries $expected to $((number - 1)): missing: removed from the chain."
    fi
    expected=$((number + 1)) last=$number
    sum=$(digest "$file")
    echo "$number $sum" >>"$work/digests"
    if ! head=$(awk -v members="$work/new" '
        BEGIN { split("store sequence previous at controller key kind records", words, " "); printf "" >members }
        NR == 1 { if ($0 != "relevo-chain/1") exit bad = 1; next }
        NR <= 9 { if ($1 != words[NR - 1] || NF != 2) exit bad = 1; value[$1] = $2; next }
        value["kind"] !~ /^(begin|takeover|record|statement|signer)$/ { exit bad = 1 }
        NR == 10 && $1 == "statements" { if (NF != 2 || $2 !~ /^[1-9][0-9]*$/) exit bad = 1; counted = $2; next }
        $1 == "record" || $1 == "statement" {
            name = $3
            if (NF != 3 || length($2) != 64 || $2 ~ /[^0-9a-f]/ || name !~ "^" $1 "s/[A-Za-z0-9_][A-Za-z0-9_.-]*\\.json$") exit bad = 1
            print $2, value["sequence"], name >members; count[$1]++; next
        }
        $1 == "signer" { next }
        { exit bad = 1 }
        END {
            if (bad || NR < 9 || value["sequence"] ~ /[^0-9]/ || value["records"] ~ /[^0-9]/) exit 1
            print value["store"], value["sequence"], value["previous"], value["at"], value["kind"], value["records"], count["record"] + 0, counted + 0, count["statement"] + 0
        }' "$file"); then
        say "entry $number: edited: it is no entry of the form relevo-chain/1."
        previous=$sum readable=0
        continue
    fi
    # shellcheck disable=SC2086 # nine words without blanks in them
    set -- $head
    [ "$2" -eq "$number" ] || say "entry $number: reordered: it was written as entry $2."
    [ "$gap" -eq 1 ] || [ "$3" = "$previous" ] || say "entry $number: does not follow entry $((number - 1)): one of the two was edited, put in or replaced."
    if { [ "$5" = begin ] && [ "$number" -ne 1 ]; } || { [ "$5" != begin ] && [ "$number" -eq 1 ]; }; then
        say "entry $number: is of the kind $5: a chain begins once, with its entry 1."
    fi
    [ -z "$store" ] || [ "$1" = "$store" ] || say "entry $number: put in: it is of the store $1, this one is $store."
    store=${store:-$1}
    if [ -n "$before" ] && later "$before" "$4"; then
        say "entry $number: dated back: $4 is before the entry before it, $before."
    fi
    if [ "$gap" -eq 0 ] && [ "$readable" -eq 1 ] && [ "$6" -ne $((records + $7)) ]; then
        say "entry $number: counts $6 records, expected $((records + $7))."
    fi
    if [ "$gap" -eq 0 ] && [ "$readable" -eq 1 ] && [ "$8" -ne $((statements + $9)) ]; then
        say "entry $number: counts $8 statements, expected $((statements + $9))."
    fi
    [ "$5" != takeover ] || taken=$((taken + $7)) said=$((said + $9))
    signed "$file" "$file.sig" "$4" || say "entry $number: forged or edited: no key that is believed here signed it so at $4."
    cat "$work/new" >>"$work/members"
    previous=$sum before=$4 records=$6 statements=$8 readable=1
done
[ -n "$store" ] || say "chain: missing: this bundle has no entry at all."
awk 'seen[$3]++ { print $3 }' "$work/members" >"$work/twice"
while read -r name; do
    named "$name"
    say "$name: the chain vouches for it twice: put in."
done <"$work/twice"

# --- the heads: how long the chain was ---
# judge FILE NAME: against the chain; the exact bytes before the signature were signed.
judge() {
    sed '/^-----BEGIN SSH SIGNATURE-----$/,$d' "$1" >"$work/head"
    sed -n '/^-----BEGIN SSH SIGNATURE-----$/,$p' "$1" >"$work/head.sig"
    for word in store at sequence records statements entry; do
        eval "head_$word=\$(sed -n 's/^$word //p' \"\$work/head\" | head -n 1)"
    done
    case $(head -n 1 "$work/head")$head_sequence in
        relevo-head/1*[!0-9]* | relevo-head/1) say "$2: edited: it is no head of the form relevo-head/1." && return 1 ;;
        relevo-head/1*) ;;
        *) say "$2: edited: it is no head of the form relevo-head/1." && return 1 ;;
    esac
    if ! signed "$work/head" "$work/head.sig" "$head_at"; then
        say "$2: forged: no key that is believed here signed it so at $head_at."
        return 1
    fi
    if [ "$head_store" != "$store" ]; then
        say "$2: it is of the store $head_store, this chain is of $store: the chain was replaced."
    elif [ "$head_sequence" -gt "$last" ]; then
        say "$2: cut off: at $head_at the chain had $head_sequence entries, $head_records records and ${head_statements:-0} statements; here it ends with entry $last."
    elif ! grep -q "^$head_sequence $head_entry\$" "$work/digests"; then
        say "$2: entry $head_sequence is not the one that stood there at $head_at: the chain was rewritten."
    fi
    return 0
}

: >"$work/chosen"
made=''
if [ ! -f "$bundle/bundle.head" ]; then
    say "bundle.head: missing: without it nobody can tell whether the end was cut off."
elif judge "$bundle/bundle.head" bundle.head; then
    made=$head_at
    sed -n 's/^chosen //p' "$work/head" | sort >"$work/chosen"
    [ "$head_sequence" = "$last" ] || say "bundle.head: the bundle goes on after the entry $head_sequence that it was made for: put in."
fi
printf '%s' "$anchors" >"$work/anchors"
while read -r file; do
    [ -r "$file" ] || stop "the head $file cannot be read."
    judge "$file" "$file"
done <"$work/anchors"

# --- the documents: records and statements ---
awk '{ print $3 }' "$work/members" | sort -u >"$work/vouched"
for kind in records statements; do
    [ ! -d "$bundle/$kind" ] || ls "$bundle/$kind" | sed -n "/\\.json\$/s|^|$kind/|p"
done | sort >"$work/there"
cp "$work/vouched" "$work/due"
if [ -s "$work/chosen" ]; then
    awk -v chosen="$work/chosen" '
        BEGIN { while ((getline line <chosen) > 0) wanted[line] = 1 }
        { name = $0; sub(/^[a-z]*\//, "", name); sub(/\.json$/, "", name); if (name in wanted) print }' "$work/vouched" >"$work/due"
fi
comm -13 "$work/there" "$work/due" >"$work/gone"
while read -r file; do
    named "$file"
    say "$name: missing: entry $(awk -v file="$file" '$3 == file { print $2; exit }' "$work/members") vouches for it, and it was removed."
done <"$work/gone"
comm -23 "$work/there" "$work/vouched" >"$work/strange"
while read -r file; do
    named "$file"
    say "$name: put in: no entry of the chain vouches for it."
done <"$work/strange"
checked=0 heard=0
sort -u -k 3,3 "$work/members" >"$work/sorted"
while read -r sum number path; do
    file=$bundle/$path
    [ -f "$file" ] || continue
    named "$path"
    case $path in
        records/*) checked=$((checked + 1)) word=closed_at ;;
        *) heard=$((heard + 1)) word=at ;;
    esac
    [ "$(digest "$file")" = "$sum" ] || say "$name: edited: its bytes are not those that entry $number vouches for."
    moment=$(awk -v word="$word" '{
        mark = "\"" word "\":\""
        if (start = index($0, mark)) { rest = substr($0, start + length(mark)); print substr(rest, 1, index(rest, "\"") - 1); exit }
    }' "$file")
    signed "$file" "$file.sig" "$moment" || say "$name: its signature does not hold: no key that is believed here signed it so at ${moment:-an unknown time}."
done <"$work/sorted"

# --- what was found ---
echo "Believed keys:"
sed -n 's/^[^#].*\(ssh-ed25519 [A-Za-z0-9+/=]*\).*/\1/p' "$keys" | while read -r key; do
    echo "$key" >"$work/key.pub"
    echo "  $(ssh-keygen -l -f "$work/key.pub" | cut -d ' ' -f 2)"
done
if [ -s "$work/chosen" ]; then
    echo "This bundle holds some runs only, and what was said about them, beside the whole chain."
fi
[ "$taken" -eq 0 ] || echo "Records that are older than the chain: $taken. It vouches for them from then on only."
[ "$said" -eq 0 ] || echo "Statements that are older than the chain: $said. It vouches for them from then on only."
[ -z "$made" ] || echo "The bundle was made at $made."
if [ "$found" -gt 0 ]; then
    echo "NOT as it was written: $found findings, $checked records, $heard statements, $last entries."
    exit 1
fi
echo "Everything is as it was written: $checked records, $heard statements, $last entries."
