# From the counts before and after each load to a table in Markdown: what an operation more costs, that is the load of many
# operations less that of few. An operation is a MiB that the server moved, or a request of 1 KiB with its answer.
BEGIN {
    split("13 accept 14 cancel 16 connect 22 read 26 send 27 receive 6 poll", names, " ")
    for (i = 1; i in names; i += 2) operation["op" names[i]] = names[i + 1]
    split("sys_read sys_write sys_sendto sys_recvfrom sys_sendmsg sys_recvmsg op22 op26 op27", list, " ")
    for (i in list) copies[list[i]] = 1
}
$2 == "mark" {
    key = $4 " | " $5 " | " $6
    if (!(key in seen)) { seen[key] = ++rows; order[rows] = key }
    # The first load of a kind is the one of few operations.
    if ($3 == "begin") { times = ++loads[key] == 1 ? -1 : 1; count = $7; is_bulk = $6 != "request" }
    half = $3 == "begin" ? -times : times
    if ($3 == "end" && !is_bulk) operations[key] += times * count
    add("user", half * $8)
    add("kernel", half * $9)
}
$2 == "calls" { add("calls", half * $4); add("calls " $3, half * $4); note("calls " $3) }
$2 == "ring" { add("ring op" $3, half * $4); note("ring op" $3); moved("op" $3, $5) }
$2 == "bytes" { moved($3, $4 == "" ? 0 : $5) }
$2 == "path" {
    if (is_bulk) operations[key] += times * $4 / 1048576
    carried[key, $3] += $4
    carried[key] += $4
}

function add(what, amount) { sum[key, what] += amount }
function note(what) { if (!(what in known)) { known[what] = 1; kinds[++kinds_count] = what } }
function moved(name, bytes) {
    if (name in copies) add("copied", half * bytes)
    if (name == "sys_splice") add("spliced", half * bytes)
}
function each(what) { return sum[key, what] / operations[key] }
function digits(value) { return value >= 99.95 ? sprintf("%.0f", value) : value >= 9.995 ? sprintf("%.1f", value) : sprintf("%.2f", value) }
function parts(prefix,    i, words, name, value) {
    for (i = 1; i <= kinds_count; i++) {
        if (index(kinds[i], prefix) != 1) continue
        value = each(kinds[i])
        if (value < 0.05) continue
        name = substr(kinds[i], length(prefix) + 1)
        sub(/^sys_/, "", name)
        if (name in operation) name = operation[name]
        words = words (words == "" ? "" : ", ") name " " digits(value)
    }
    return words == "" ? "none" : words
}
function paths(    i, words) {
    split("user ktls splice", list, " ")
    for (i = 1; i <= 3; i++)
        if (carried[key, list[i]] >= carried[key] / 1000)
            words = words (words == "" ? "" : ", ") list[i] " " sprintf("%.0f %%", 100 * carried[key, list[i]] / carried[key])
    return words
}
END {
    print "| setting | TLS | load | path | system calls | operations of the ring | KiB copied | KiB spliced | instructions: user | kernel |"
    print "|---|---|---|---|---|---|---|---|---|---|"
    for (row = 1; row <= rows; row++) {
        key = order[row]
        if (loads[key] != 2 || operations[key] <= 0) continue
        printf "| %s | %s | %s: %s | %s | %.1f | %.1f | %.0f | %.0f |\n", key, paths(), digits(each("calls")), parts("calls "), \
            parts("ring "), each("copied") / 1024, each("spliced") / 1024, each("user"), each("kernel")
    }
}
