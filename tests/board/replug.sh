#!/bin/sh
# In the guest: `replug.sh CYCLES` unbinds and binds the camera's driver; prints for each cycle how long the program took to see a
# part again, its memory and its open descriptors.
pid=$(cat /tmp/pid)
driver=/sys/bus/platform/drivers/vivid
now() { cut -d' ' -f1 /proc/uptime; }
parts() { grep -c '"event":"part"' /tmp/out; }
for cycle in $(seq "$1"); do
    echo vivid.0 >$driver/unbind
    usleep 300000
    before=$(parts)
    begin=$(now)
    echo vivid.0 >$driver/bind
    while [ "$(parts)" -lt $((before + 1)) ]; do
        usleep 20000
        kill -0 "$pid" || exit 1
    done
    end=$(now)
    recovered=$(awk "BEGIN { print $end - $begin }")
    usleep 200000
    kib=$(grep VmRSS /proc/"$pid"/status | tr -dc 0-9)
    fds=$(ls /proc/"$pid"/fd | wc -l)
    echo "cycle=$cycle recovered=$recovered kib=$kib fds=$fds"
done
