// SPDX-License-Identifier: MIT OR Apache-2.0
//! Allocation that reports that memory is out instead of ending the process.

use std::alloc::Layout;

use super::{Result, Status};

/// A box, or ENOMEM.
pub(crate) fn try_box<T>(value: T) -> Result<Box<T>> {
    const { assert!(size_of::<T>() > 0) };
    // SAFETY: the layout isn't empty; the place has it and is written before the box owns it.
    unsafe {
        let place = std::alloc::alloc(Layout::new::<T>()).cast::<T>();
        if place.is_null() {
            return Err(Status::ENOMEM);
        }
        place.write(value);
        Ok(Box::from_raw(place))
    }
}

/// A vector that holds `capacity` elements without allocating again, or ENOMEM.
pub(crate) fn try_vec<T>(capacity: usize) -> Result<Vec<T>> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(capacity)?;
    Ok(vec)
}
