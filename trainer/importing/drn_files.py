"""The weights of the DRN paper's authors, and a mirror of them."""

from dataclasses import dataclass

OFFICIAL_ROOT = "http://dl.yf.io/drn"
"""Reported down since 2022."""

MIRROR_ROOT = "https://github.com/osmr/imgclsmob/releases/download/v0.0.116"
"""The same weights under other names, each file in a zip."""


@dataclass(frozen=True, slots=True)
class DRNFile:
    architecture: str
    sha256: str
    """What the official file's begins with."""

    mirror_number: str
    mirror_sha1: str
    """Whether of the zip or of the file inside is not said there."""

    top1_error_pct: float
    top5_error_pct: float
    """One crop: arXiv:1705.09914, table 1; for those that are not in there, the authors' repository."""

    @property
    def official_name(self) -> str:
        return f"{self.architecture}-{self.sha256}.pth"

    @property
    def mirror_name(self) -> str:
        return f"{self.architecture.replace('_', '')}-{self.mirror_number}-{self.mirror_sha1[:8]}.pth.zip"


DRN_FILES = (
    DRNFile("drn_c_26", "ddedf421", "0755", "35405bd52a0c721f3dc64f18d433074f263b7339", 24.86, 7.55),
    DRNFile("drn_c_42", "9d336e8c", "0657", "7c99c4608a9a5e5f073f657b92f258ba4ba5ac77", 22.94, 6.57),
    DRNFile("drn_c_58", "0a53a92c", "0601", "70ec1f56c23da863628d126a6ed0ad10f037a2ac", 21.7, 6.0),
    DRNFile("drn_d_22", "4bd2f8ea", "0823", "5c2c6a0cf992409ab388e04e9fbd06b7141bdf47", 25.8, 8.2),
    DRNFile("drn_d_38", "eebb45f0", "0695", "4630f0fb3f721f4a2296e05aacb1231ba7530ae5", 23.8, 6.9),
    DRNFile("drn_d_54", "0e0534ff", "0586", "bfdc1f8826027b247e2757be45b176b3b91b9ea3", 21.2, 5.9),
    DRNFile("drn_d_105", "12b40979", "0548", "a643f4dcf9e4b69eab06b76e54ce22169f837592", 20.6, 5.5),
)
