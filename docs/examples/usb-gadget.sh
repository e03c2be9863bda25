#!/bin/sh
# usb-gadget.sh start|stop: makes this tablet look like a network adapter to whatever its USB socket is plugged into.
# Copy to /usr/local/sbin; census-usb-gadget.service runs it. As root. Needs a kernel with libcomposite and usb_f_ncm
# (or usb_f_ecm), and a USB socket that can be the device's side: /sys/class/udc is not empty then.
set -eu

# The name of the interface on the tablet: a pattern, of which the kernel makes census0. On the laptop it is named by
# the laptop's own rules (enx… or usb0).
interface=${USB_GADGET_INTERFACE:-census%d}
# ncm: Linux, Windows 11, macOS. ecm: Linux and macOS, for older kernels without ncm.
function=${USB_GADGET_FUNCTION:-ncm}
gadgets=${USB_GADGET_CONFIGFS:-/sys/kernel/config/usb_gadget}
controllers=${USB_GADGET_CONTROLLERS:-/sys/class/udc}
gadget=$gadgets/census

say() {
    echo "usb-gadget: $*" >&2
}

# address WORD: a hardware address of our own making that stays the same for this tablet, so that the laptop knows it
# again. 02: locally administered, for one machine.
address() {
    printf '%s %s' "$1" "$(cat /etc/machine-id)" | sha256sum |
        sed 's/^\(..\)\(..\)\(..\)\(..\)\(..\).*/02:\1:\2:\3:\4:\5/'
}

start() {
    if [ -d "$gadget" ]; then
        say "it is set up already"
        return
    fi
    modprobe -q libcomposite || true
    if [ ! -d "$gadgets" ]; then
        say "the kernel has no USB gadgets here ($gadgets): it lacks libcomposite, or configfs is not mounted"
        exit 1
    fi
    controller=$(find "$controllers" -mindepth 1 -maxdepth 1 -exec basename {} \; 2>/dev/null | sort | head -n 1)
    if [ -z "$controller" ]; then
        say "no USB socket of this machine can be the device's side ($controllers is empty)"
        exit 1
    fi
    mkdir "$gadget"
    trap 'stop' EXIT
    # Numbers of the Linux Foundation, for a gadget made of functions of the kernel.
    echo 0x1d6b > "$gadget/idVendor"
    echo 0x0104 > "$gadget/idProduct"
    # The laptop sees these words: nothing in them tells whose tablet it is.
    mkdir -p "$gadget/strings/0x409" "$gadget/configs/c.1/strings/0x409" "$gadget/functions/$function.0"
    echo "Census" > "$gadget/strings/0x409/manufacturer"
    echo "Tablet" > "$gadget/strings/0x409/product"
    echo "Network" > "$gadget/configs/c.1/strings/0x409/configuration"
    address tablet > "$gadget/functions/$function.0/dev_addr"
    address laptop > "$gadget/functions/$function.0/host_addr"
    # Older kernels (before 5.12) do not let it be named, and call it usb0.
    echo "$interface" > "$gadget/functions/$function.0/ifname" 2>/dev/null || say "the interface keeps the kernel's name"
    ln -s "$gadget/functions/$function.0" "$gadget/configs/c.1/"
    echo "$controller" > "$gadget/UDC"
    trap - EXIT
    say "a network adapter on $controller"
}

stop() {
    if [ ! -d "$gadget" ]; then
        return
    fi
    # In this order; files of configfs go with their folders, and folders that the kernel made go with those above.
    echo > "$gadget/UDC" 2>/dev/null || true
    rm -f "$gadget/configs/c.1/$function.0"
    for folder in configs/c.1/strings/0x409 configs/c.1 "functions/$function.0" strings/0x409 ""; do
        [ ! -d "$gadget/$folder" ] || rmdir "$gadget/$folder"
    done
}

case ${1:-} in
start) start ;;
stop) stop ;;
*)
    say "start or stop?"
    exit 2
    ;;
esac
