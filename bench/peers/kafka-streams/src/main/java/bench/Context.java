package bench;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;

/** Where and with what a session was used: address, place and client. */
record Context(String ip, Place place, String client) {

  /** A place; coordinates are NaN and the country empty when unknown. */
  record Place(String country, double latitude, double longitude) {

    static final Place UNKNOWN = new Place("", Double.NaN, Double.NaN);
    private static final double EARTH_KM = 6371.0;

    /** Returns the great-circle distance, NaN when either place is unknown. */
    double kilometres(Place other) {
      double north = Math.toRadians(other.latitude - latitude) / 2;
      double east = Math.toRadians(other.longitude - longitude) / 2;
      double cosines = Math.cos(Math.toRadians(latitude)) * Math.cos(Math.toRadians(other.latitude));
      double chord = Math.pow(Math.sin(north), 2) + cosines * Math.pow(Math.sin(east), 2);
      return 2 * EARTH_KM * Math.asin(Math.sqrt(chord));
    }

    boolean differs(Place other) {
      return !country.isEmpty() && !other.country.isEmpty() && !country.equals(other.country);
    }
  }

  void write(DataOutputStream out) throws IOException {
    out.writeUTF(ip);
    out.writeUTF(place.country());
    out.writeDouble(place.latitude());
    out.writeDouble(place.longitude());
    out.writeUTF(client);
  }

  static Context read(DataInputStream in) throws IOException {
    String ip = in.readUTF();
    Place place = new Place(in.readUTF(), in.readDouble(), in.readDouble());
    return new Context(ip, place, in.readUTF());
  }
}
