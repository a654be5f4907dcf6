"""Join codes, such as ``ABC-234``, without letters and digits that are easily confused, and without rude words."""

from __future__ import annotations

import secrets

CODE_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
CODE_DIGITS = "23456789"

# How people read a digit as a letter.
_READ = str.maketrans("23456789", "ZEASGTBG")

# Three letters that are a rude word, the beginning of one, or a slur, in languages of Europe. Codes have no I and no O.
_WORDS = (
    # English
    "ANL ANU ARS ASS AZZ BCH BTC BUT CLT CNT CRP CUM CUN DAM DCK DKE FAG FAP FCK FCU FKN FKU FUC FUK FUQ FUX GAY "
    "GTF HTL JAP JEW KKK KYS LSD MLF NAZ NGA NGR PEE PRN PSY PUS RAP SEX SHT SLT STD STF SUC SUK TET TRD TWT UGL "
    "VAG WAN WTF XTC XXX "
    # German
    "FCE FTZ FUT HJS HUR JUD KAK KZZ NEG NSU PEN PUF SAU SCH TRT "
    # French
    "BTE CAC CUL ENC FDP MER NEG NTM PED PDE PUT TPT "
    # Spanish, Portuguese, Italian
    "CAG CAZ CUL HDP MER PUT PTA TET "
    # Polish, Czech, Russian
    "CHU CYC DUP GEJ HUJ HUY JEB KRV KUR KUT PEZ PZD SRA SUK SZM ZAJ "
    # Dutch, the Nordic languages, Turkish
    "AMK BGE FTT GVD HRA KNK KUK KUL LUL NSB PKK RUK SKT "
    # Hungarian, Romanian
    "BUZ FAS FUT KAK MUI PUL"
)
_RUDE = frozenset(_WORDS.split())


def new_code() -> str:
    """One of about 7 million join codes."""
    while True:
        letters = "".join(secrets.choice(CODE_LETTERS) for _ in range(3))
        code = letters + "-" + "".join(secrets.choice(CODE_DIGITS) for _ in range(3))
        if not is_rude(code):
            return code


def is_rude(code: str) -> bool:
    """Whether three characters in a row read as a rude word, with digits as the letters that they resemble."""
    read = "".join(character for character in code.upper() if character.isalnum()).translate(_READ)
    return any(read[start : start + 3] in _RUDE for start in range(len(read) - 2))
