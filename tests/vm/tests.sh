#!/bin/sh
# Inside the virtual machine: what the kernel's TLS can be trusted with, what kernel TLS alone can do wrong, and the relay's
# own tests over again. VM_TESTS on the kernel's command line names tests to run in place of these, VM_MIB says how much the
# tests of integrity move each way.
export COUNTERSIGN_BIN=/usr/bin/countersign
export COUNTERSIGN_TEST_SLOWNESS=8 COUNTERSIGN_TEST_KTLS=auto
case $(cat /kernel-name) in
    # Cannot change keys: TLS 1.3 stays in user space.
    release) export COUNTERSIGN_TEST_PATHS=1.2=splice,1.3=user ;;
    *) export COUNTERSIGN_TEST_PATHS=1.2=splice,1.3=splice ;;
esac
of_command_line() { sed -n "s/.*$1=\([^ ]*\).*/\1/p" /proc/cmdline | tr , ' '; }
# What every listener says of the kernel path, and which way bytes go then; VM_MODE on the kernel's command line sets it.
mode() {
    case $1 in
        carried)
            export COUNTERSIGN_TEST_LISTENER='splice = "off"'
            COUNTERSIGN_TEST_PATHS=$(echo "$COUNTERSIGN_TEST_PATHS" | sed s/splice/ktls/g) ;;
        tx)
            export COUNTERSIGN_TEST_LISTENER='ktls = "tx"' COUNTERSIGN_TEST_BYTES=in=user,out=splice
            # The operator's own wish: also where keys cannot be changed.
            [ "$(cat /kernel-name)" != release ] || export COUNTERSIGN_TEST_KEYS=fixed
            COUNTERSIGN_TEST_PATHS=1.2=ktls,1.3=ktls ;;
        rx)
            export COUNTERSIGN_TEST_LISTENER='ktls = "rx"' COUNTERSIGN_TEST_BYTES=in=splice,out=user
            COUNTERSIGN_TEST_PATHS=$(echo "$COUNTERSIGN_TEST_PATHS" | sed s/splice/ktls/g) ;;
    esac
}
mode "$(of_command_line VM_MODE)"
cd /tmp || exit 1
mib=$(of_command_line VM_MIB)
export COUNTERSIGN_TEST_MIB="${mib:-50}"

# Runs tests, and once more by itself what failed: an emulated machine on busy cores is slow at times. More than three
# are no such thing.
tested() {
    { integration "$@" --test-threads=3 2>&1; echo $? > code; } | tee first.log
    [ "$(cat code)" -eq 0 ] && return 0
    failed=$(sed -n 's/^test \([a-z_0-9:]*\) \.\.\. FAILED$/\1/p' first.log | sort -u)
    [ -n "$failed" ] && [ "$(echo "$failed" | wc -l)" -le 3 ] || return 1
    for name in $failed; do
        echo "unsteady: $name, once more"
        integration --exact "$name" --nocapture || return 1
    done
}

# What operators do to open connections, and what bounds them, where both versions go
# through the kernel; alone: VM_TESTS=operators.
operators='
    reload::reloads_under_load reload::a_newly_revoked reload::a_withdrawn_anchor reload::a_rule_that
    reload::a_deny_rule reload::a_renewed_server blocks::each_selector blocks::a_block_ends
    shutdown::an_open_connection shutdown::the_drain_deadline shutdown::a_second_signal shutdown::an_idle_herd
    deadlines::an_idle deadlines::a_connection deadlines::a_client_that_never deadlines::a_half_closed
    limits::an_identity_has limits::a_resumed backends::least_connections backends::a_server_that_speaks
    hand_over::ten_reloads hand_over::a_block_of hand_over::a_reload_of audit::a_slow_reader
    proxy_header::v2_tells_addresses proxy_header::v2_reaches proxy_inbound::a_header_in_one ctl::sessions
    ctl::drain_is resumption::a_session_resumes
'
# The other ways to use the kernel, in short; alone: VM_TESTS=modes.
in_each_mode() {
    case $(cat /kernel-name) in
        release) modes=tx ;;
        *) modes='carried tx rx' ;;
    esac
    for mode in $modes; do
        echo "vm: every listener in mode $mode"
        (mode "$mode" && tested kernel_tls::the_audit kernel_tls::keys_change kernel_tls::nothing_behind \
            kernel_tls::empty_records kernel_tls::a_client_that_asks) || return 1
    done
}
chosen=$(of_command_line VM_TESTS)
[ "$chosen" != modes ] || { in_each_mode; exit; }
[ "$chosen" != operators ] || chosen=$operators
# shellcheck disable=SC2086
[ -z "$chosen" ] || { tested $chosen; exit; }
units sys::ktls sys::splice --nocapture --test-threads=1 || exit 1
export COUNTERSIGN_TEST_TALLY=/tmp/tally
# Linux 6.1 opens the window of a socket that nobody reads by a few bytes a probe: what waits for it to close takes five minutes
# there. It passes; by hand: VM_TESTS=integrity::a_backend VM_SECONDS=600.
slow=no-test-has-this-name
[ "$(cat /kernel-name)" != release ] || slow=integrity::a_backend_that_does_not_read
tested kernel_tls:: endings:: integrity:: tls_options::key_updates hostile::floods:: hostile::resets:: --skip "$slow" || exit 1
# With hooks that only a debug build has.
COUNTERSIGN_BIN=/usr/bin/countersign-debug tested kernel_tls::used_up_keys hostile::panics:: || exit 1
# shellcheck disable=SC2086
[ "$(cat /kernel-name)" = release ] || tested $operators || exit 1
in_each_mode || exit 1
echo "connections of these tests by version and path:"
sort tally | uniq -c
