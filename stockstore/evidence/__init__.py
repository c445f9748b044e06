"""How the fate of a writer's transaction is found out, by those who meet its markers after its process has died."""

from stockstore.evidence.choice import AnyEvidence, BothEvidences, evidence_of
from stockstore.evidence.inserting import OutboxEvidence
from stockstore.evidence.outbox import Lag, Outbox
from stockstore.evidence.postgresql import PostgresEvidence

__all__ = ["AnyEvidence", "BothEvidences", "Lag", "Outbox", "OutboxEvidence", "PostgresEvidence", "evidence_of"]
