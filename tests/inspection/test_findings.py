"""Findings name the images they are about, and problems stand before notes."""

from histojax.inspection.findings import NOTE, PROBLEM, Finding, ImageSet, problems_first


def test_a_finding_has_the_images_and_their_reasons():
    images = ImageSet(("a.png", "b.png", "c.png"), (), ("", "", ""), None)
    assert images.finding(NOTE, "dark", "{} dark.", {0: "x", 2: "y"}) == [
        Finding(NOTE, "dark", "2 images dark.", ("a.png: x", "c.png: y"), (0, 2))
    ]
    assert images.finding(NOTE, "dark", "{} dark.", {}) == []


def test_problems_stand_before_notes_and_keep_their_order():
    severities = {"a": NOTE, "b": PROBLEM, "c": NOTE, "d": PROBLEM}
    findings = [Finding(severity, kind, "") for kind, severity in severities.items()]
    assert [finding.kind for finding in problems_first(findings)] == ["b", "d", "a", "c"]
