"""How a network came to its precision, in the few words that a person reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any


def lowering_in_words(lowering: Mapping[str, Any] | None) -> list[str]:
    """Lines about a Network's `lowering`; none for FP32."""
    if lowering is None:
        return []
    lines = []
    if layers := lowering.get("layers"):
        counts = Counter(layers.values())
        types = ", ".join(f"{count} of {len(layers)} layers in {kind}" for kind, count in counts.most_common())
        share = lowering["low_mac_share"]
        lines.append(f"{types} ({share:.0%} of the multiply-accumulates quantised); {lowering['scheme']}")
        recipe = lowering.get("recipe") or {}
        if "int8" in layers.values() and recipe.get("shifted") and recipe.get("weight_bits", 8) == 8:
            lines.append("weights of 8 bits: for x86 processors without VNNI give --weight-bits 7, or sums overflow")
    if lowering.get("tried"):
        steps = "; ".join(f"{t['step']} {t['calibration_psnr_db']:.1f} dB" for t in lowering["tried"])
        lines.append(f"against FP32 on {lowering['calibration']['pictures']} calibration pictures: {steps}")
        lines.append(f"taken: {lowering['chosen']}")
    if search := lowering.get("search"):
        lines.append(
            f"searched for {search['floor_db']:g} dB on {search['held_back']} held-back pictures: "
            f"{len(search['curve'])} plans, cost {search['cost']}"
        )
    if kept := lowering.get("kept_fp32"):
        lines.append(f"kept in FP32, sums over the picture: {len(kept)} nodes")
    return lines
