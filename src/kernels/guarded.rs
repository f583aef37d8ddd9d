//! Tests only: a buffer that ends right before an inaccessible page, so that any access beyond it
//! crashes the test. AddressSanitizer does not see loads and stores of assembly; the MMU does.

use core::ops::{Deref, DerefMut};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

/// Values that end where the forbidden page begins.
pub(super) struct Guarded<T> {
    map: *mut u8,
    mapped: usize,
    len: usize,
    of: core::marker::PhantomData<T>,
}

impl<T: Copy> Guarded<T> {
    pub(super) fn holding(values: &[T]) -> Self {
        let page = rustix::param::page_size();
        let mapped = size_of_val(values).next_multiple_of(page) + page;
        // SAFETY: a new mapping anywhere; its last page is taken from nobody.
        let map = unsafe {
            let access = ProtFlags::READ | ProtFlags::WRITE;
            let map = mmap_anonymous(core::ptr::null_mut(), mapped, access, MapFlags::PRIVATE).unwrap().cast::<u8>();
            mprotect(map.add(mapped - page).cast(), page, MprotectFlags::empty()).unwrap();
            map
        };
        let mut held = Self { map, mapped, len: values.len(), of: core::marker::PhantomData };
        held.copy_from_slice(values);
        held
    }

    fn begin(&self) -> *mut T {
        let page = rustix::param::page_size();
        self.map.wrapping_add(self.mapped - page - self.len * size_of::<T>()).cast()
    }
}

impl<T: Copy> Deref for Guarded<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: as many values lie there, mapped and aligned, since the page behind them is.
        unsafe { core::slice::from_raw_parts(self.begin(), self.len) }
    }
}

impl<T: Copy> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and borrowed by this alone.
        unsafe { core::slice::from_raw_parts_mut(self.begin(), self.len) }
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping that `holding` made; nothing borrows it any more.
        unsafe { munmap(self.map.cast(), self.mapped).unwrap() };
    }
}
