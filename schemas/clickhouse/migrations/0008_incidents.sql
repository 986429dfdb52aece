-- up
CREATE TABLE IF NOT EXISTS incidents{on_cluster}
(
    incident_uid     String CODEC(ZSTD) COMMENT 'The same for the same cause, whoever computes it',
    tenant_id        LowCardinality(String) COMMENT 'Tenant',
    user_id          String CODEC(ZSTD) COMMENT 'User; empty when the findings are about a network',
    subject          String CODEC(ZSTD) COMMENT 'The network, when there is no user',
    status           LowCardinality(String) COMMENT 'open, updated or resolved',
    status_id        UInt8 COMMENT 'OCSF: 1 new, 2 in progress, 4 resolved',
    resolution       LowCardinality(String) COMMENT 'quiet, withdrawn, false-positive, merged or empty',
    merged_into      String CODEC(ZSTD) COMMENT 'Incident it became part of; empty for others',
    severity         LowCardinality(String) COMMENT 'Highest of its alerting findings',
    severity_id      UInt8 COMMENT 'OCSF: 1 informational to 5 critical',
    risk_score       UInt8 COMMENT 'Scores of its alerting findings combined, 0 to 100',
    title            String CODEC(ZSTD) COMMENT 'One sentence: who, what, from where to where, since when',
    started_at       DateTime64(3, 'UTC') CODEC(Delta, ZSTD) COMMENT 'Event time of its first alerting finding',
    last_event_at    DateTime64(3, 'UTC') COMMENT 'Event time of the last occurrence of an alerting finding',
    detected_at      DateTime64(3, 'UTC') COMMENT 'Timestamp of the record that brought this state about',
    acknowledged_at  Nullable(DateTime64(3, 'UTC')) COMMENT 'When feedback acknowledged it; null when none did',
    acknowledged_by  String CODEC(ZSTD) COMMENT 'Author of that feedback',
    resolved_at      Nullable(DateTime64(3, 'UTC')) COMMENT 'When it was resolved; null while it is not',
    detection        LowCardinality(String) COMMENT 'Detection of the leading finding',
    detections       Array(LowCardinality(String)) COMMENT 'Detections of its alerting findings, the leading one first',
    attacks          Array(LowCardinality(String)) COMMENT 'MITRE ATT&CK techniques',
    findings         Array(String) CODEC(ZSTD) COMMENT 'Ids of its alerting findings',
    related_findings Array(String) CODEC(ZSTD) COMMENT 'Ids of the findings that belong to it and do not alert',
    sessions         Array(String) CODEC(ZSTD) COMMENT 'Sessions',
    networks         Array(String) CODEC(ZSTD) COMMENT 'Networks, as text',
    places           Array(String) CODEC(ZSTD) COMMENT 'Places, as text',
    devices          Array(String) CODEC(ZSTD) COMMENT 'Devices, as text',
    document         String CODEC(ZSTD) COMMENT 'JSON: the incident in full, with its timeline',
    revision         UInt64 COMMENT 'Identifies the state that is published',
    version          UInt64 COMMENT 'Grows with every state'
)
ENGINE = {engine:ReplacingMergeTree(version)}
ORDER BY (tenant_id, incident_uid)
{ttl:incidents.detected_at};

-- Every finding with the incident it belongs to; incident_uid is empty when it belongs to none.
CREATE VIEW IF NOT EXISTS incident_findings{on_cluster} AS
SELECT
    i.incident_uid AS incident_uid,
    f.*
FROM (SELECT * FROM findings FINAL) AS f
LEFT JOIN
(
    SELECT
        tenant_id,
        incident_uid,
        arrayJoin(arrayConcat(findings, related_findings)) AS finding_uid
    FROM incidents FINAL
    WHERE resolution NOT IN ('merged', 'withdrawn')
) AS i ON i.tenant_id = f.tenant_id AND i.finding_uid = f.finding_uid

-- down
DROP VIEW IF EXISTS incident_findings{on_cluster};
DROP TABLE IF EXISTS incidents{on_cluster}
