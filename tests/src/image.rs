//! File systems in sparse image files, mounted inside a [`Rig`] only.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::netns::Rig;

/// A file system the server can export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fs {
    /// ext4 with default features.
    Ext4,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
}

impl Fs {
    /// Every kind, for tables.
    pub const ALL: [Fs; 3] = [Fs::Ext4, Fs::Xfs, Fs::Btrfs];

    /// The kind's name as mkfs(8) and mount(8) know it.
    pub fn name(self) -> &'static str {
        match self {
            Fs::Ext4 => "ext4",
            Fs::Xfs => "xfs",
            Fs::Btrfs => "btrfs",
        }
    }
}

/// A formatted image, mounted while this value lives (or until [`Image::unmount`]).
pub struct Image {
    rig: Arc<Rig>,
    file: PathBuf,
    dir: PathBuf,
    mounted: bool,
}

impl Image {
    /// Makes `RIG/NAME.img` of `mib` MiB (sparse; xfs wants 300 at least), formats it and mounts it at `RIG/NAME`,
    /// writable for everybody.
    ///
    /// # Panics
    /// If mkfs or mount fails.
    #[track_caller]
    pub fn new(rig: &Arc<Rig>, name: &str, fs: Fs, mib: u64) -> Image {
        let file = format(rig, name, fs, mib);
        let dir = rig.dir().join(name);
        std::fs::create_dir_all(&dir).expect("image: mount point");
        let mut image = Image {
            rig: rig.clone(),
            file,
            dir,
            mounted: false,
        };
        image.mount("");
        let d = image.dir.display();
        rig.sh(&format!("rmdir {d}/lost+found 2>/dev/null; chmod 1777 {d}"));
        image
    }

    /// Where it is mounted, as seen inside the rig: what a server exports.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The image file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The mounted directory, in a form usable by the test process, outside the rig.
    pub fn outside(&self) -> PathBuf {
        self.rig.inside(&self.dir)
    }

    /// Mounts it, with extra comma-separated options (may be empty).
    #[track_caller]
    pub fn mount(&mut self, options: &str) {
        let (file, dir) = (self.file.display(), self.dir.display());
        self.rig
            .sh(&format!("mount -o loop,noatime,{options} {file} {dir}"));
        self.mounted = true;
    }

    /// Unmounts it; the image stays.
    #[track_caller]
    pub fn unmount(&mut self) {
        self.rig.sh(&format!("umount {}", self.dir.display()));
        self.mounted = false;
    }
}

impl Image {
    /// Power loss: everything the file system has not yet written to its image is gone; then it is mounted again, which
    /// replays its journal. Nobody may have files open there any more. ext4 and xfs only (FS_IOC_SHUTDOWN, by
    /// xfs_io(8)).
    #[track_caller]
    pub fn cut_power(&mut self) {
        let (dir, file) = (self.dir.display(), self.file.display());
        // A killed server's ring is taken apart by a kernel worker, which may hold files, or a mount of the server's
        // own, for a moment. Mounting while the old file system lives would only give it back, dead as it is; it is
        // gone when its loop device is.
        self.rig.sh(&format!(
            "xfs_io -x -c shutdown {dir}
             for i in $(seq 1500); do
                 if umount {dir} 2>/dev/null; then break; fi
                 sleep 0.02
             done
             for i in $(seq 1500); do
                 if [ -z \"$(losetup -j {file})\" ]; then exit 0; fi
                 sleep 0.02
             done
             echo 'still held after 30 s'; exit 1"
        ));
        self.mounted = false;
        self.mount("");
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.mounted {
            // Lazy: a server that is being killed may still hold it; the rig's end is the final word.
            let dir = self.dir.clone();
            let _ = self.rig.command("umount").arg("-l").arg(dir).status();
        }
        let _ = std::fs::remove_file(&self.file);
    }
}

/// A formatted, unmounted image `RIG/NAME.img`.
#[track_caller]
pub(crate) fn format(rig: &Arc<Rig>, name: &str, fs: Fs, mib: u64) -> PathBuf {
    let file = rig.dir().join(format!("{name}.img"));
    File::create(&file)
        .and_then(|f| f.set_len(mib << 20))
        .expect("image: file");
    rig.sh(&format!(
        "mkfs.{} -q {} >/dev/null",
        fs.name(),
        file.display()
    ));
    file
}
