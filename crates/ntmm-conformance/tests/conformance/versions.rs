//! Which case is run where.

use ntmm_conformance::version::{Architecture, Layout, OsRange, Paging, Profile, Width};

fn profiles(text: &str) -> Vec<Profile> {
    let range = OsRange::parse(text).unwrap_or_else(|| panic!("{text} is a range"));
    Profile::ALL.into_iter().filter(|profile| range.includes(*profile)).collect()
}

#[test]
fn ranges_of_versions_belong_to_profiles() {
    use Profile::{Legacy, Modern};
    for (text, expected) in [
        ("any", &[Legacy, Modern][..]),
        ("recent", &[Modern]),
        ("nt5.2", &[Legacy]),
        ("<=vista", &[Legacy]),
        ("<win8", &[Legacy]),
        ("<win10", &[Legacy]),
        (">=vista", &[Modern]),
        (">=win7", &[Modern]),
        (">=win8", &[Modern]),
        (">=win8.1", &[Modern]),
        (">=win10", &[Modern]),
        (">win10-1507", &[Modern]),
        (">=win10-1803", &[Modern]),
        (">=win10-1903", &[Modern]),
        (">=win10-20h2", &[Modern]),
        (">=win11", &[Modern]),
        (">=nt5.2", &[Legacy, Modern]),
        (">nt5.2", &[Modern]),
        ("nt5.1", &[]),
        ("win10-1809", &[]),
    ] {
        assert_eq!(profiles(text), expected, "{text}");
    }
}

#[test]
fn what_is_no_range_is_refused() {
    for text in ["", ">=", "windows", "=>vista", "win10-", "win10-x", "any ", ">any"] {
        assert_eq!(OsRange::parse(text), None, "{text}");
    }
}

#[test]
fn ranges_are_written_as_they_are_read() {
    for text in ["any", "recent", "nt5.2", ">=vista", "<win8.1", "<=vista", ">win10-1511"] {
        assert_eq!(OsRange::parse(text).map(|range| range.to_string()).as_deref(), Some(text));
    }
}

#[test]
fn architectures_belong_to_paging_modes() {
    let modes = |architecture: Architecture| -> Vec<Paging> {
        Paging::ALL.into_iter().filter(|paging| architecture.includes(*paging)).collect()
    };
    assert_eq!(modes(Architecture::Any), Paging::ALL);
    assert_eq!(modes(Architecture::X86), [Paging::I386, Paging::Pae]);
    assert_eq!(modes(Architecture::X64), [Paging::Amd64]);
    assert_eq!(modes(Architecture::Wow64), []);
}

#[test]
fn layouts_have_the_addresses_of_their_architecture() {
    for paging in [Paging::I386, Paging::Pae] {
        let layout = Layout::new(paging);
        assert_eq!(layout.width, Width::Bits32);
        assert_eq!(layout.highest_user, 0x7FFE_FFFF);
        assert_eq!(layout.lowest_user, 0x1_0000);
    }
    let layout = Layout::new(Paging::Amd64);
    assert_eq!(layout.width, Width::Bits64);
    assert_eq!(layout.highest_user, 0x7FF_FFFE_FFFF);
}

#[test]
fn numbers_are_cut_to_the_width_of_a_pointer() {
    assert_eq!(Width::Bits32.truncate(-1), 0xFFFF_FFFF);
    assert_eq!(Width::Bits64.truncate(-1), u64::MAX);
    assert_eq!(Width::Bits32.truncate(0xDEAD_BEEF_DEAD_BEEF), 0xDEAD_BEEF);
}
