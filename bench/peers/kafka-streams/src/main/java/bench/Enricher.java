package bench;

import com.maxmind.db.CHMCache;
import com.maxmind.db.Reader;
import java.io.File;
import java.io.IOException;
import java.net.InetAddress;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Looks up the place of an address and the family of a client; both are cached. */
final class Enricher {

  private static final int MOST = 1 << 17;
  private static final Pattern CLIENT = Pattern.compile("(Edg|OPR|Firefox|Chrome|Safari|curl|python|okhttp)[\\w-]*/\\d+");
  private static final Pattern SYSTEM = Pattern.compile("Windows|Android|iPhone|iPad|Mac OS X|Linux");
  private final Reader reader;
  private final Map<String, Context.Place> places = bounded();
  private final Map<String, String> clients = bounded();

  Enricher(String cityDatabase) throws IOException {
    reader = new Reader(new File(cityDatabase), new CHMCache());
  }

  Context context(Event event) {
    Context.Place place = places.computeIfAbsent(event.ip(), this::place);
    return new Context(event.ip(), place, clients.computeIfAbsent(event.userAgent(), Enricher::client));
  }

  private Context.Place place(String ip) {
    try {
      Map<?, ?> found = reader.get(InetAddress.getByName(ip), Map.class);
      if (found == null || !(found.get("location") instanceof Map<?, ?> location)) {
        return Context.Place.UNKNOWN;
      }
      String country = found.get("country") instanceof Map<?, ?> named ? "" + named.get("iso_code") : "";
      return new Context.Place(country, number(location.get("latitude")), number(location.get("longitude")));
    } catch (IOException error) {
      return Context.Place.UNKNOWN;
    }
  }

  private static double number(Object value) {
    return value instanceof Number number ? number.doubleValue() : Double.NaN;
  }

  private static String client(String userAgent) {
    return first(CLIENT, userAgent).replaceAll("/\\d+", "") + " on " + first(SYSTEM, userAgent);
  }

  private static String first(Pattern pattern, String text) {
    Matcher matcher = pattern.matcher(text);
    return matcher.find() ? matcher.group() : "";
  }

  private static <V> Map<String, V> bounded() {
    return new LinkedHashMap<>() {
      @Override
      protected boolean removeEldestEntry(Map.Entry<String, V> eldest) {
        return size() > MOST;
      }
    };
  }
}
