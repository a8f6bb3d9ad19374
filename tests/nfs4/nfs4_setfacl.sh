# nfs4_setfacl and nfs4_getfacl through the Linux client: run in the export by tests/nfs4/kernel.rs. What it says must be
# what nfs4_setfacl.said has, from ringnfs with every minor version and from the kernel's server.
cd /mnt/nfs
umask 022
show() { for f; do echo "# $f $(stat -c %a $f)"; nfs4_getfacl $f | grep '^[ADUL]'; done; }
try() { if "$@" >/tmp/out 2>/tmp/err; then echo "did: $*"; else echo "failed: $*: $(tail -1 /tmp/err | sed 's/.*: //')"; fi; }
as() { setpriv --reuid=$1 --regid=$1 --clear-groups sh -c "cd /mnt/nfs; $2" >/dev/null 2>&1 && echo "$1 may: $2" || echo "$1 may not: $2"; }
echo text >file; chmod 640 file; mkdir team; chmod 750 team; mkdir team/sub; echo x >team/sub/f
show file team
try nfs4_setfacl -a A::2001:rwatTnNcCy file
try nfs4_setfacl -a A:g:2002:rtncy file
show file
as 2001 'cat file; echo more >>file'
as 2002 'cat file'
as 2002 'echo more >>file'
as 2003 'cat file'
nfs4_getfacl file | grep '^[ADUL]' >/tmp/saved
try nfs4_setfacl -S /tmp/saved file
nfs4_getfacl file | grep '^[ADUL]' | diff /tmp/saved - && echo the same
try nfs4_setfacl -m "$(grep :2001: /tmp/saved | grep ^A)" A::2001:rtncy file
show file
as 2001 'echo more >>file'
try nfs4_setfacl -x "$(nfs4_getfacl file | grep ^A::2001:)" file
show file
try chmod 604 file
show file
try nfs4_setfacl -s A::OWNER@:rw,A::GROUP@:r,A::EVERYONE@:r file
show file
# Recursive and inherited.
try nfs4_setfacl -R -a A:fd:2001:rxtncy team
show team team/sub team/sub/f
echo new >team/new; mkdir team/newdir
show team/new team/newdir
try nfs4_setfacl -a A:fdi:2004:rwaxtncy team
show team
echo x >team/new2; show team/new2
try nfs4_setfacl -a A:fdn:2005:rx team
try nfs4_setfacl -a A:f:2005:rx team
# What a POSIX ACL cannot say.
cp file odd
try nfs4_setfacl -a D::2003:w odd
try nfs4_setfacl -a D:g:2002:r odd
try nfs4_setfacl -s D::OWNER@:r,A::OWNER@:rw,A::GROUP@:r,A::EVERYONE@:r odd
try nfs4_setfacl -s A::EVERYONE@:rwx,D::2001:w odd
try nfs4_setfacl -s A::2001:r odd
try nfs4_setfacl -s D::EVERYONE@:w,A::OWNER@:rw odd
try nfs4_setfacl -a U::2001:r odd
try nfs4_setfacl -a L::2001:r odd
try nfs4_setfacl -a A:f:2001:r odd
try nfs4_setfacl -a A::nobody-at-all@nowhere:r odd
try nfs4_setfacl -a A::INTERACTIVE@:r odd
try nfs4_setfacl -a A::2001:wo odd
show odd
# Many entries.
{ echo A::OWNER@:rw; for n in $(seq 3000 3099); do echo A::$n:r; done; echo A::GROUP@:r; echo A::EVERYONE@:; } >/tmp/many
echo x >many; try nfs4_setfacl -S /tmp/many many
nfs4_getfacl many | grep -c '^A::3'
as 3050 'cat many'
as 2050 'cat many'
# Programs that keep ACLs, as far as they know these.
cp -a --preserve=all file copied 2>/dev/null; show copied
