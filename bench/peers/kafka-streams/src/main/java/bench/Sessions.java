package bench;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/** Consumes session events, keeps the state of each user in a store with a changelog, and sends findings. */
public final class Sessions {

  private static final String STORE = "sessions";

  private Sessions() {}

  public static void main(String[] arguments) throws IOException {
    Enricher enricher = new Enricher(setting("GEO__CITY_DB"));
    Progress progress = new Progress(Path.of(System.getenv("BENCH_PROGRESS")));
    KafkaStreams streams = new KafkaStreams(topology(enricher, progress), options());
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
  }

  private static Topology topology(Enricher enricher, Progress progress) {
    var bytes = Serdes.ByteArray();
    var store =
        Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore(STORE), bytes, bytes)
            .withLoggingEnabled(Map.of())
            .withCachingEnabled();
    return new Topology()
        .addSource("events", bytes.deserializer(), bytes.deserializer(), setting("TOPICS__EVENTS"))
        .addProcessor("rules", () -> new Judge(enricher, progress), "events")
        .addStateStore(store, "rules")
        .addSink("findings", setting("TOPICS__FINDINGS"), bytes.serializer(), bytes.serializer(), "rules");
  }

  private static Properties options() {
    Properties options = new Properties();
    options.put(StreamsConfig.APPLICATION_ID_CONFIG, setting("STREAM__GROUP_ID"));
    options.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, setting("KAFKA__BOOTSTRAP_SERVERS"));
    options.put(StreamsConfig.STATE_DIR_CONFIG, setting("DATA_DIR") + "/streams");
    options.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
    options.put(StreamsConfig.consumerPrefix("session.timeout.ms"), 6000);
    options.put(StreamsConfig.consumerPrefix("heartbeat.interval.ms"), 2000);
    options.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
    options.put(StreamsConfig.producerPrefix("linger.ms"), 5);
    return options;
  }

  private static String setting(String name) {
    return System.getenv("SESSIONWATCH_" + name);
  }

  /** Judges the events of a partition. */
  private static final class Judge implements Processor<byte[], byte[], byte[], byte[]> {

    private static final ObjectMapper JSON = new ObjectMapper();
    private final Enricher enricher;
    private final Progress progress;
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<byte[], byte[]> store;

    Judge(Enricher enricher, Progress progress) {
      this.enricher = enricher;
      this.progress = progress;
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
      this.context = context;
      store = context.getStateStore(STORE);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
      try {
        Event event = Event.parse(record.value());
        if (event != null) {
          judge(record, event);
        }
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
      progress.add();
    }

    private void judge(Record<byte[], byte[]> record, Event event) throws IOException {
      UserState state = UserState.decode(store.get(record.key()));
      for (Finding finding : Rules.apply(state, event, enricher.context(event))) {
        context.forward(record.withValue(JSON.writeValueAsBytes(document(finding, event, record.timestamp()))));
      }
      store.put(record.key(), state.encode());
    }

    private static Map<String, Object> document(Finding finding, Event event, long time) {
      Map<String, Object> document = new LinkedHashMap<>();
      document.put("class_uid", 2004);
      document.put("time", time);
      document.put("risk_score", finding.score());
      document.put("metadata", Map.of("tenant_uid", event.tenant()));
      document.put("finding_info", Map.of("analytic", Map.of("uid", finding.rule()), "uid", event.uid()));
      document.put("evidences", Map.of("observed", finding.observed(), "expected", finding.expected()));
      return document;
    }
  }
}
