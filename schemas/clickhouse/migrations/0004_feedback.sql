-- up
CREATE TABLE IF NOT EXISTS feedback{on_cluster}
(
    finding_uid     String CODEC(ZSTD) COMMENT 'The finding it is about',
    author          String CODEC(ZSTD) COMMENT 'Who says so',
    tenant_id       LowCardinality(String) COMMENT 'Tenant, if it was said',
    detection       LowCardinality(String) COMMENT 'Detection, if it was said',
    verdict         LowCardinality(String) COMMENT 'investigating, true_positive or false_positive',
    comment         String CODEC(ZSTD) COMMENT 'Why',
    said_at         DateTime64(3, 'UTC') COMMENT 'Timestamp of the record',
    kafka_topic     LowCardinality(String) COMMENT 'Topic the record first arrived on',
    kafka_partition UInt32 COMMENT 'Partition the record first arrived in',
    kafka_offset    UInt64 COMMENT 'Offset the record first arrived at'
)
ENGINE = {engine:ReplacingMergeTree(said_at)}
ORDER BY (tenant_id, finding_uid, author)
{ttl:feedback.said_at};

-- The detection is the finding's own: whoever gives a verdict need not name it. A verdict of another tenant does not count.
CREATE VIEW IF NOT EXISTS feedback_by_detection{on_cluster} AS
SELECT
    if(f.detection = '', v.detection, f.detection) AS detection,
    if(f.tenant_id = '', v.tenant_id, f.tenant_id) AS tenant_id,
    countIf(v.verdict = 'true_positive') AS true_positives,
    countIf(v.verdict = 'false_positive') AS false_positives,
    true_positives / (true_positives + false_positives) AS precision
FROM (SELECT finding_uid, tenant_id, detection, verdict FROM feedback FINAL) AS v
LEFT JOIN (SELECT finding_uid, tenant_id, detection FROM findings FINAL) AS f ON f.finding_uid = v.finding_uid
WHERE v.tenant_id = '' OR f.tenant_id IN ('', v.tenant_id)
GROUP BY detection, tenant_id

-- down
DROP VIEW IF EXISTS feedback_by_detection{on_cluster};
DROP TABLE IF EXISTS feedback{on_cluster}
