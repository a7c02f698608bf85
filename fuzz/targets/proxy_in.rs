//! PROXY headers as anybody may send them: whole or in pieces the answer is the same, and within its bounds.
#![no_main]

use countersign::config::limits::PROXY_HEADER_BYTES_MAX;
use countersign::wire::proxy::{Parsed, parse, tlvs, write_v1};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let whole = parse(data);
    match &whole {
        Ok(Parsed::NeedMore) => assert!(data.len() < PROXY_HEADER_BYTES_MAX, "asks for more than it takes"),
        Ok(Parsed::Header(header)) => {
            assert!(header.len <= data.len() && header.len <= PROXY_HEADER_BYTES_MAX);
            assert!(header.tlvs.end <= header.len && header.tlvs.start <= header.tlvs.end);
            assert_eq!(header.source.is_some(), header.destination.is_some());
            let mut used = 0;
            tlvs(&data[header.tlvs.clone()]).for_each(|(_, value)| used += 3 + value.len());
            assert_eq!(used, header.tlvs.len(), "TLVs fill their room");
            assert_eq!(parse(&data[..header.len]), whole, "what follows a header changes it");
            if let (Some(source), Some(destination)) = (header.source, header.destination) {
                let mut line = Vec::new();
                write_v1(source, destination, &mut line);
                assert!(matches!(parse(&line), Ok(Parsed::Header(again)) if again.len == line.len()
                    && again.source.is_some_and(|again| again.ip().to_canonical() == source.ip().to_canonical())));
            }
        }
        Err(_) => {}
    }
    // A prefix is never a different header, and never refused where the whole is taken.
    for end in (0..data.len()).filter(|end| *end < 300 || end % 97 == 0) {
        match (parse(&data[..end]), &whole) {
            (Ok(Parsed::NeedMore), _) => {}
            (prefix, whole) => assert_eq!(prefix, *whole, "prefix of {end} bytes"),
        }
    }
});
