"""Words every part shares: records, errors, the Family contract. Imports no sibling, and nothing heavy on its own account."""
