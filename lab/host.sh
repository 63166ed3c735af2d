#!/usr/bin/env bash
# Usage: lab/host.sh NAME ADDRESS ROOT STATE PUBLIC_KEY
# The first process of a host: lab/hosts.py starts it in namespaces of its own. STATE keeps what the host writes.
set -euo pipefail
name=$1 address=$2 lower=$3 state=$4 key=$5
root=$state/root

mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$state/upper,workdir=$state/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    : > "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
ln -s pts/ptmx "$root/dev/ptmx"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm" # PostgreSQL's dynamic shared memory

hostname "$name"
echo "$name" > "$root/etc/hostname"
printf '127.0.0.1 localhost %s\n' "$name" > "$root/etc/hosts"
mkdir -p "$root/run/sshd"
chroot "$root" useradd --create-home --shell /bin/bash admin 2> /dev/null || true # it is there after a power cut
echo 'admin ALL=(ALL) NOPASSWD: ALL' > "$root/etc/sudoers.d/admin"
chmod 0440 "$root/etc/sudoers.d/admin"
install -D -m 0600 "$key" "$root/home/admin/.ssh/authorized_keys"
chroot "$root" chown -R admin: /home/admin/.ssh
chroot "$root" install -d -m 2775 -o postgres -g postgres /run/postgresql

ip link set lo up
until ip link show eth0 > /dev/null 2>&1; do sleep 0.02; done # lab/hosts.py connects it to the switch
ip address add "$address/24" dev eth0
ip link set eth0 up

exec chroot "$root" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    /bin/bash -c '
ssh-keygen -q -A
/usr/sbin/sshd -o UseDNS=no -o PasswordAuthentication=no
service postgresql start
trap "service postgresql stop; exit 0" TERM
while :; do
    sleep 3600 &
    wait $!
done'
