-- The issuers by which sessions were signed, once another signs: sessions of theirs are to
-- be ended, too.
CREATE TABLE countersign_signer (
    issuer TEXT COLLATE "C" PRIMARY KEY
);
