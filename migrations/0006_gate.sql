-- 0006: what the publication gate said when a version was made: JSON, as the API shows it. Versions
-- that are there already met no gate.

ALTER TABLE versions ADD COLUMN gate TEXT;
