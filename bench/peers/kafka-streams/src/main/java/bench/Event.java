package bench;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.time.Instant;
import java.time.LocalDateTime;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.Set;
import java.util.TreeSet;

/** A session as a record describes it. Times are milliseconds since the epoch; 0: not stated. */
record Event(
    String tenant,
    String user,
    String uid,
    String ip,
    String userAgent,
    Set<String> scopes,
    boolean deleted,
    long createdAt,
    long usedAt,
    long maxAgeMillis) {

  private static final ObjectMapper JSON = new ObjectMapper();
  private static final long MINUTE = 60_000;

  /** Parses a snapshot, a CloudEvents envelope or a Debezium change. Returns null when it holds no session. */
  static Event parse(byte[] value) throws IOException {
    JsonNode node = session(JSON.readTree(value));
    if (node == null || !node.hasNonNull("user_id") || !node.hasNonNull("tenant_id")) {
      return null;
    }
    Set<String> scopes = new TreeSet<>();
    node.path("scopes").forEach(scope -> scopes.add(scope.asText()));
    return new Event(
        node.path("tenant_id").asText(),
        node.path("user_id").asText(),
        node.path("uid").asText(),
        node.path("ip").asText(),
        node.path("user_agent").asText(),
        scopes,
        node.path("is_deleted").asBoolean(),
        time(node.path("created_at")),
        time(node.path("last_used_at")),
        node.path("max_age_minutes").asLong() * MINUTE);
  }

  /** Returns when the user acted. */
  long activity() {
    return usedAt > 0 ? usedAt : createdAt;
  }

  private static JsonNode session(JsonNode node) {
    if (node.has("specversion")) {
      return node.get("data");
    }
    JsonNode change = node.has("payload") ? node.get("payload") : node;
    return change.has("op") ? change.get("after") : node;
  }

  private static long time(JsonNode node) {
    if (node.isNumber()) {
      return node.asLong();
    }
    if (!node.isTextual()) {
      return 0;
    }
    String text = node.asText();
    if (text.endsWith("Z")) {
      return Instant.parse(text).toEpochMilli();
    }
    if (text.indexOf('+', 10) > 0 || text.indexOf('-', 10) > 0) {
      return OffsetDateTime.parse(text).toInstant().toEpochMilli();
    }
    return LocalDateTime.parse(text).toInstant(ZoneOffset.UTC).toEpochMilli();
  }
}
