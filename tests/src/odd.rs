//! Files unlike others, in shell.

/// Makes them in the working directory, in a tree that `guest tree` made: links of both kinds, a FIFO, modes, owners and
/// times. For those who copy all of it, such as rsync(1).
pub const ODD_FILES: &str = "
ln -s d0/file-1 link
ln -s /nowhere dangling
ln d0/file-2 hard
mkfifo fifo
mkdir -m 2750 empty
chmod 4711 d0/file-3
chown 2001:2002 d0/file-4
touch -d '2001-02-03 04:05:06.789' d0/file-5 d0
";
