#!/bin/sh
# Inside the virtual machine: loads the server with each setting of kernel TLS in turn, and says before and after each load
# what the kernel's own tracing has counted of the worker: system calls by name, operations of its ring by number, and
# the bytes that they said to have moved. Lines for the host begin with "@".
cd /tmp || exit 1
# The first CPU is the server's alone; this script and what it starts keep to the second.
taskset -p 2 $$ > /dev/null
trace=/sys/kernel/tracing
mount -t tracefs trace $trace || exit 1
submit=$(ls -d $trace/events/io_uring/io_uring_submit_req $trace/events/io_uring/io_uring_submit_sqe 2>/dev/null | head -1)
worker='comm == "worker-0"'
echo 'ring_done u8 op; s32 res' > $trace/synthetic_events &&
    echo "hist:keys=id.syscall if $worker" > $trace/events/raw_syscalls/sys_enter/trigger &&
    echo "hist:keys=id.syscall:vals=ret if ret > 0 && $worker" > $trace/events/raw_syscalls/sys_exit/trigger &&
    echo "hist:keys=req:op=opcode if $worker" > "$submit/trigger" &&
    echo "hist:keys=req:o=\$op,r=res:onmatch(io_uring.$(basename "$submit")).trace(ring_done,\$o,\$r)" \
        > $trace/events/io_uring/io_uring_complete/trigger &&
    echo 'hist:keys=op:vals=res if res >= 0' > $trace/events/synthetic/ring_done/trigger || { cat $trace/error_log; exit 1; }

# Lines of a histogram: "{ id: sys_splice [275] } hitcount: 12 ret: 34".
told() { sed -n "s/^{ [a-z]*: *\([^ ]*\).*} hitcount: *\([0-9]*\) *\([a-z]*: *\([0-9]*\)\)\{0,1\}.*/@ $1 \1 \2 \4/p" "$2"; }

snapshot() {
    sleep 0.25
    echo "@ mark $1"
    told calls $trace/events/raw_syscalls/sys_enter/hist
    told bytes $trace/events/raw_syscalls/sys_exit/hist
    told ring $trace/events/synthetic/ring_done/hist
    sleep 0.25
}

run() {
    local port=$1 operation=$2
    shift 2
    timeout 60 countersign-load "$operation" "127.0.0.1:$port" --pki pki --tls "$version" --groups X25519,secp256r1 "$@" \
        --timeout 50s --metrics 127.0.0.1:9180 --cpus 1 --json - -q > report || { cat report; exit 1; }
}

# A load with its few operations, then with many: what a start and handshakes cost is in both.
load() {
    local name=$1 count
    shift
    for count in $few $many; do
        snapshot "begin $setting $version $name $count"
        run "$@" --count "$count"
        snapshot "end $setting $version $name $count"
        sed -n '/"paths"/,/}/s/^ *"\([a-z]*\)": \([0-9]*\),*$/@ path \1 \2/p' report
    done
}

configuration() {
    printf '[runtime]\ncpus = "0"\nktls = "%s"\n[admin]\nhttp = "127.0.0.1:9180"\nsocket = ""\n' "$1"
    for port in 8441:9001 8442:9002 8443:9003; do
        printf '[[listener]]\nname = "%s"\naddress = ["127.0.0.1:%s"]\nsplice = "%s"\n' "$port" "${port%:*}" "$2"
        printf '[[site]]\nlistener = "%s"\nbackend = "%s"\ncertificate = [{ chain = "pki/server.pem", key = "pki/server.key" }]\n' "$port" "$port"
        printf '[site.client]\nauth = "require"\ntrust = ["pki/ca.pem"]\n'
        printf '[[backend]]\nname = "%s"\nservers = ["127.0.0.1:%s"]\n' "$port" "${port#*:}"
    done
}

countersign-load pki pki > /dev/null || exit 1
for backend in stream:9001 sink:9002 echo:9003; do
    countersign-load backend --mode "${backend%:*}" --listen "127.0.0.1:${backend#*:}" --cpus 1 > /dev/null &
done
case $(cat /kernel-name) in
    # Cannot change keys: TLS 1.3 stays in user space.
    release) versions=1.2 ;;
    *) versions='1.3 1.2' ;;
esac
for setting in off keys splice; do
    case $setting in
        off) configuration off auto ;;
        keys) configuration auto off ;;
        splice) configuration auto auto ;;
    esac > c.toml
    taskset 1 countersign run -c c.toml 2> log &
    server=$!
    until grep -q '^ready ' log; do kill -0 $server || { cat log; exit 1; }; sleep 0.1; done
    for version in $versions; do
        run 8443 request -n 16 --count 16
        few=8 many=40
        load down 8441 bulk --direction down -n 2
        load up 8442 bulk --direction up -n 2
        few=100 many=800
        load request 8443 request -n 16
    done
    kill $server
    wait $server
    grep -E 'WARN|ERROR' log || true
done
