//! Deliberate faults: the lanes of AddressSanitizer and Miri run each by its name and fail where it goes unseen. Nobody
//! else runs them.

#[test]
#[ignore = "a deliberate fault, for the sanitizers to see"]
fn a_read_of_freed_memory() {
    let bytes = Box::into_raw(Box::new([7u8; 64]));
    // SAFETY: it came from a box, and this is the first drop.
    drop(unsafe { Box::from_raw(bytes) });
    // SAFETY: none. That it is freed is the point.
    let byte = unsafe { bytes.cast::<u8>().read_volatile() };
    println!("read {byte}");
}

#[test]
#[ignore = "a deliberate fault, for the sanitizers to see"]
fn memory_that_nobody_gives_back() {
    std::mem::forget(vec![7u8; 4321]);
}
